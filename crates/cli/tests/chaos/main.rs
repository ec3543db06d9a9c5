//! Whether the promises about jobs hold while everything goes wrong: replicas are killed or stand still for longer than their
//! leases, the database restarts without warning, connections break or fall silent.
//!
//! What goes wrong is drawn from a seed, which is printed. [`plan`] says how long and how much, [`fleet`] has the replicas,
//! [`faults`] draws what happens to them, [`clients`] submit jobs meanwhile, and [`run`] puts it together and returns what was
//! observed. [`mutations`] breaks the product on purpose, to see that it would be noticed.

mod clients;
mod faults;
mod fleet;
mod ground;
mod mutations;
mod plan;
mod run;

use dunnage_testing::history::violations;
use dunnage_testing::language::Language;
use ground::Ground;
use plan::Plan;
use run::{run, setup};

#[test]
fn promises_hold_on_sqlite() {
    let history = run(&setup(Language::Lua), &Ground::Sqlite, &Plan::from_environment());
    assert_eq!(violations(&history), []);
}

#[test]
fn promises_hold_on_postgres() {
    let history = run(&setup(Language::Python), &Ground::postgres(), &Plan::from_environment());
    assert_eq!(violations(&history), []);
}
