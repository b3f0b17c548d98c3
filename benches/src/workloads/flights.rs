//! Flights: every record of the example data is an event that updates its origin, its destination and its route.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use optimist_dispatcher::{Config, TransactionQueue};
use optimist_stm::collections::TMap;
use optimist_stm::{Result, Tx, atomically, read_only};
use parking_lot::Mutex;

use crate::harness::{SEQUENTIAL, Side, Workload, parallel};

/// How often the 20,000 records are gone through in one run.
const PASSES: usize = 5;

#[derive(Clone, Copy)]
struct Flight {
    origin: &'static str,
    destination: &'static str,
    delay: i64,
    miles: i64,
}

/// What is kept for an airport or a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    departures: i64,
    arrivals: i64,
    delay: i64,
    worst: i64,
    miles: i64,
}

impl Totals {
    fn with(old: Option<&Totals>, flight: &Flight, departs: bool) -> Totals {
        let old = old.copied().unwrap_or(Totals { worst: flight.delay, ..Totals::default() });
        Totals {
            departures: old.departures + i64::from(departs),
            arrivals: old.arrivals + i64::from(!departs),
            delay: old.delay + flight.delay,
            worst: old.worst.max(flight.delay),
            miles: old.miles + flight.miles,
        }
    }
}

type Route = (&'static str, &'static str);

/// The handler's state in plain maps.
#[derive(Default)]
struct Plain {
    airports: HashMap<&'static str, Totals>,
    routes: HashMap<Route, Totals>,
}

impl Plain {
    fn handle(&mut self, flight: &Flight) {
        let Flight { origin, destination, .. } = *flight;
        let add = |old: &mut Totals, departs| *old = Totals::with(Some(old), flight, departs);
        let new = Totals { worst: flight.delay, ..Totals::default() };
        add(self.airports.entry(origin).or_insert(new), true);
        add(self.airports.entry(destination).or_insert(new), false);
        add(self.routes.entry((origin, destination)).or_insert(new), true);
    }
}

/// The handler's state in transactional maps.
#[derive(Default)]
struct Transactional {
    airports: TMap<&'static str, Totals>,
    routes: TMap<Route, Totals>,
}

impl Transactional {
    fn handle(&self, tx: &mut Tx<'_>, flight: &Flight) -> Result<()> {
        let Flight { origin, destination, .. } = *flight;
        self.airports.update(tx, origin, |old| Totals::with(old, flight, true))?;
        self.airports.update(tx, destination, |old| Totals::with(old, flight, false))?;
        self.routes.update(tx, (origin, destination), |old| Totals::with(old, flight, true))
    }
}

/// The workload.
pub(crate) struct Flights {
    flights: Vec<Flight>,
    expected: Plain,
    plain: Only<RefCell<Plain>>,
    locked: Mutex<Plain>,
    transactional: Arc<Transactional>,
}

/// Used by one thread at a time: the harness runs sequential sides on one thread.
struct Only<T>(T);

#[expect(unsafe_code, reason = "plain code is measured without synchronisation")]
// SAFETY: only sequential sides use it, and those run on one thread, whose end the harness waits for.
unsafe impl<T: Send> Sync for Only<T> {}

impl Flights {
    /// Reads the data.
    ///
    /// # Panics
    /// If the data is not there or not as it should be.
    pub(crate) fn new() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/flights-20k.csv");
        let text: &'static str =
            std::fs::read_to_string(path).expect("the example data is part of the repository").leak();
        let flights: Vec<Flight> = text
            .lines()
            .skip(1)
            .map(|line| {
                let fields: Vec<&'static str> = line.split(',').collect();
                let number = |at: usize| fields[at].parse().expect("delays and miles are numbers");
                Flight { origin: fields[3], destination: fields[4], delay: number(1), miles: number(2) }
            })
            .collect();
        let mut expected = Plain::default();
        (0..PASSES).for_each(|_| flights.iter().for_each(|flight| expected.handle(flight)));
        Flights {
            flights,
            expected,
            plain: Only(RefCell::default()),
            locked: Mutex::default(),
            transactional: Arc::default(),
        }
    }
}

impl Workload for Flights {
    fn name(&self) -> &'static str {
        "flights"
    }

    fn about(&self) -> String {
        format!("{} events, each updates two airports and a route", self.operations())
    }

    fn sides(&self) -> Vec<Side> {
        vec![SEQUENTIAL, parallel("one mutex"), parallel("transactions"), parallel("dispatcher")]
    }

    fn operations(&self) -> u64 {
        (self.flights.len() * PASSES) as u64
    }

    fn reset(&mut self, side: usize) {
        match side {
            0 => self.plain = Only(RefCell::default()),
            1 => self.locked = Mutex::default(),
            _ => self.transactional = Arc::default(),
        }
    }

    fn operate(&self, side: usize, _worker: usize, index: u64) {
        let flight = &self.flights[index as usize % self.flights.len()];
        match side {
            0 => self.plain.0.borrow_mut().handle(flight),
            1 => self.locked.lock().handle(flight),
            _ => atomically(|tx| self.transactional.handle(tx, flight)),
        }
    }

    fn all_at_once(&self, side: usize, threads: usize) -> bool {
        if side == 3 {
            let queue = TransactionQueue::new(Config { threads, ..Config::default() });
            for flight in (0..PASSES).flat_map(|_| &self.flights) {
                let (state, flight) = (self.transactional.clone(), *flight);
                queue.add(move |ev| Ok(state.handle(ev.tx(), &flight)?));
            }
            queue.run().expect("no event fails");
        }
        side == 3
    }

    fn verify(&self, side: usize) {
        let check = |airports: &HashMap<&'static str, Totals>, routes: &HashMap<Route, Totals>| {
            assert!(*airports == self.expected.airports && *routes == self.expected.routes, "a flight was lost");
        };
        match side {
            0 => check(&self.plain.0.borrow().airports, &self.plain.0.borrow().routes),
            1 => {
                let locked = self.locked.lock();
                check(&locked.airports, &locked.routes);
            }
            _ => {
                let (airports, routes) = read_only(|tx| {
                    Ok((self.transactional.airports.entries(tx)?, self.transactional.routes.entries(tx)?))
                });
                check(&airports.into_iter().collect(), &routes.into_iter().collect());
            }
        }
    }
}
