//! Telling of loops that stand still, from outside of the runtime that may itself be what stands still.

use std::collections::BTreeSet;
use std::io;
use std::sync::Weak;
use std::time::Duration;

use crate::{Loops, Shared};

/// How often it is looked how the loops are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn start(shared: Weak<Shared>) -> io::Result<()> {
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        let mut told = BTreeSet::new();
        while let Some(shared) = shared.upgrade() {
            tell(&Loops { shared }, &mut told);
            std::thread::sleep(LOOK_EVERY);
        }
    })?;
    Ok(())
}

/// Tells what has changed since it was last told.
fn tell(loops: &Loops, told: &mut BTreeSet<&'static str>) {
    let ailing = loops.ailing();
    for it in &ailing {
        if told.insert(it.name) {
            tracing::error!(name = it.name, "{it}; `/healthz/live` fails until it goes on: restart this server");
        }
    }
    told.retain(|name| {
        let is_ailing = ailing.iter().any(|it| it.name == *name);
        if !is_ailing {
            tracing::info!(name, "a background loop goes on again");
        }
        is_ailing
    });
}
