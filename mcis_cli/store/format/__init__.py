"""What an artifact file is: identity, user block, container, reader."""
