"""What happens over months, on simulated time: one story a module."""
