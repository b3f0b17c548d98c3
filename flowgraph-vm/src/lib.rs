//! The flowgraph language and its virtual machine.
