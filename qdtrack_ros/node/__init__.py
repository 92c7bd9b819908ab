"""The ROS 2 node. `rclpy` is imported only under this package, and only by the modules that talk to the graph."""
