"""What is read: places from tables, photos from folders, and what about them would flatter an accuracy."""
