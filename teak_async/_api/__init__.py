"""What Teak's API is: endpoints, bytes, credentials. No I/O."""
