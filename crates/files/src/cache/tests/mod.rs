//! The cache against storage and disks that fail.

mod bound;
mod crash;
mod disk;
mod fake;
mod flights;
mod hostile;
mod load;
mod revalidation;
