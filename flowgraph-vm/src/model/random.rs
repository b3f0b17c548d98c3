//! Random core programs, to try tiers against each other.
