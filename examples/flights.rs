//! The flights job with closures: every flight is an event that updates its origin, its destination and its route in shared maps.
//!
//! ```text
//! cargo run --release --example flights [THREADS [FILE.csv]]
//! ```
//!
//! Prints what `examples/flights.flow` prints; what the run did goes to standard error.

use std::cmp::Reverse;
use std::error::Error;

use optimist::dispatcher::{Config, Event, EventResult, Options, TransactionQueue, outln};
use optimist::stm::collections::TMap;
use serde_json::json;

#[derive(Clone, Copy)]
struct Airport {
    departures: i64,
    arrivals: i64,
    delay: i64,
    worst: i64,
    miles: i64,
}

#[derive(Clone, Copy)]
struct Route {
    flights: i64,
    delay: i64,
    worst: i64,
    miles: i64,
}

#[derive(Clone, Default)]
struct Tables {
    airports: TMap<String, Airport>,
    routes: TMap<String, Route>,
}

struct Flight {
    delay: i64,
    miles: i64,
    origin: String,
    destination: String,
}

impl Tables {
    fn record(&self, ev: &mut Event<'_>, flight: &Flight) -> EventResult {
        let Flight { delay, miles, origin, destination } = flight;
        let visit = |airport: Option<&Airport>, departures, arrivals| {
            let a =
                airport.copied().unwrap_or(Airport { departures: 0, arrivals: 0, delay: 0, worst: *delay, miles: 0 });
            Airport {
                departures: a.departures + departures,
                arrivals: a.arrivals + arrivals,
                delay: a.delay + delay,
                worst: a.worst.max(*delay),
                miles: a.miles + miles,
            }
        };
        self.airports.update(ev, origin.clone(), |airport| visit(airport, 1, 0))?;
        self.airports.update(ev, destination.clone(), |airport| visit(airport, 0, 1))?;
        self.routes.update(ev, format!("{origin}-{destination}"), |route| {
            let r = route.copied().unwrap_or(Route { flights: 0, delay: 0, worst: *delay, miles: 0 });
            Route { flights: r.flights + 1, delay: r.delay + delay, worst: r.worst.max(*delay), miles: r.miles + miles }
        })?;
        Ok(())
    }

    fn print(&self, ev: &mut Event<'_>) -> EventResult {
        outln!(ev, "airport {:>11} {:>9} {:>6} {:>6} {:>9}", "departures", "arrivals", "delay", "worst", "miles");
        let mut airports = self.airports.entries(ev)?;
        airports.sort_by_cached_key(|(name, a)| (Reverse(a.departures + a.arrivals), name.clone()));
        for (name, Airport { departures, arrivals, delay, worst, miles }) in airports {
            let mean = delay.div_euclid(departures + arrivals);
            outln!(ev, "{name:<7} {departures:>11} {arrivals:>9} {mean:>6} {worst:>6} {miles:>9}");
        }
        outln!(ev, "\nroute   {:>8} {:>6} {:>6} {:>9}", "flights", "delay", "worst", "miles");
        let mut routes = self.routes.entries(ev)?;
        routes.sort_by_cached_key(|(name, r)| (Reverse(r.flights), name.clone()));
        for (name, Route { flights, delay, worst, miles }) in routes {
            outln!(ev, "{name} {flights:>8} {:>6} {worst:>6} {miles:>9}", delay.div_euclid(flights));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(Ok(Config::default().threads), |threads| threads.parse())?;
    let file = arguments.next().unwrap_or_else(|| "examples/data/flights-20k.csv".to_owned());
    let queue = TransactionQueue::new(Config { threads, ..Config::default() });
    let tables = Tables::default();
    for (index, record) in csv::Reader::from_path(&file)?.records().enumerate() {
        let record = record?;
        let [_, delay, miles, origin, destination] = [0, 1, 2, 3, 4].map(|field| record.get(field).unwrap_or(""));
        let (delay, miles) = (delay.parse()?, miles.parse()?);
        let flight = Flight { delay, miles, origin: origin.to_owned(), destination: destination.to_owned() };
        let tables = tables.clone();
        queue.add_with(Options::new().name(format!("flight {}", index + 1)), move |ev| tables.record(ev, &flight));
    }
    let report = queue.run()?;
    queue.add_named("table", move |ev| tables.print(ev));
    queue.run()?;
    let stats = json!({
        "threads": threads,
        "commits": report.counters.commits,
        "attempts_per_commit": report.counters.attempts_per_commit(),
        "events_per_second": report.events_per_second().round(),
    });
    eprintln!("{stats}");
    Ok(())
}
