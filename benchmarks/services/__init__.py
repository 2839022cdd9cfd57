"""The sandbox's servers, programs that leave nothing behind, and the resources that they use."""
