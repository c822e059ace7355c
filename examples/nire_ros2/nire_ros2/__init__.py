"""Images of a nire-live stream in ROS: what is pure (`conversion`), the nodes of ROS 2 and ROS 1."""
