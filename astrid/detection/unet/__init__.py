"""A U-Net that says of every pixel how likely a transient is there."""
