"""What happens to the packets of every driver: put in order, cleaned, merged, paced."""
