"""Grids of training runs, such as the paper's tables and figures; see slam_model.grid.__main__."""
