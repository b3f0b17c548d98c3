//! Bodies that look at two variables which are equal between transactions, while a writer changes both without a pause: ten million of them
//! under every opaque protocol, those of attempts that abort included, and none may see a difference. `OPTIMIST_BODIES` sets another number.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use optimist_stm::{Kind, TVar, atomically, lease, read_only};

/// Bodies for each protocol, read-only ones and those that write taken together.
fn bodies() -> u64 {
    std::env::var("OPTIMIST_BODIES").map_or(10_000_000, |text| text.parse().expect("OPTIMIST_BODIES is a number"))
}

/// Changes beside them at the least, so that there is something to be seen.
const CHANGES: u64 = 1_000;

/// Lets the writer end, also if a body has seen a zombie.
struct End<'a>(&'a AtomicBool);
impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_body_sees_a_state_that_never_was() {
    let bodies = bodies();
    for &kind in Kind::ALL.iter().filter(|kind| kind.info().opaque) {
        let _lease = lease(kind);
        let (a, b, own) = (TVar::new(0_u64), TVar::new(0_u64), TVar::new(0_u64));
        let done = AtomicBool::new(false);
        let changes = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    atomically(|tx| {
                        let next = a.get(tx)? + 1;
                        a.set(tx, next)?;
                        b.set(tx, next)
                    });
                    changes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let end = End(&done);
            let mut count = 0;
            let look = |x: u64, y: u64, count: &mut u64| {
                *count += 1;
                assert_eq!(x, y, "a zombie under {kind}");
            };
            while count < bodies || changes.load(Ordering::Relaxed) < CHANGES {
                read_only(|tx| {
                    let (x, y) = (a.get(tx)?, b.get(tx)?);
                    look(x, y, &mut count);
                    Ok(())
                });
                atomically(|tx| {
                    // The other way round, and the first one long ago.
                    let y = b.get(tx)?;
                    own.set(tx, y)?;
                    let x = a.get(tx)?;
                    look(x, y, &mut count);
                    Ok(())
                });
            }
            drop(end);
            println!("{kind}: {count} bodies beside {} changes, no zombie", changes.load(Ordering::Relaxed));
        });
    }
}
