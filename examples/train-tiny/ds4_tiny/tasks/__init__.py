"""What ds4-tiny is taught, one module for each kind. A task draws a question, a short thought and the answer."""
