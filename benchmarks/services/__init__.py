"""What is measured on: the sandbox's servers, programs that leave nothing behind, and what they use up."""
