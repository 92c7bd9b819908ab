# With -DQDTRACK_PYTHON_ONLY_INTERFACES=ON, generate only what rclpy on Fast DDS loads: the C structures, the type
# supports in C and the Python modules. Leaving out C++ takes a build on two cores from minutes to seconds. For the
# self-contained environment of `make setup` alone: a ROS install needs the rest for C++ nodes and rosbag2. (The C
# introspection type support stays: Fast DDS describes types to remote tools with it, and complains for each without.)
# Include this file after rosidl_default_generators has been found.

option(QDTRACK_PYTHON_ONLY_INTERFACES "Generate messages for rclpy on Fast DDS only" OFF)

if(QDTRACK_PYTHON_ONLY_INTERFACES)
  list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "^[^:]*_cpp(:|$)")
endif()
