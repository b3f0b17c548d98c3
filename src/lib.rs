//! Optimist.
