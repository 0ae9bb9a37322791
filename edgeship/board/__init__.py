"""What is pushed to a board and runs there: single files that import nothing of edgeship."""
