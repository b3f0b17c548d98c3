use optimist_stm::check::explore::{explore, Limits, Outcome};
use optimist_stm::protocol::shipped;
use std::time::{Duration, Instant};
fn main() {
    let mut args = std::env::args().skip(1);
    let bound: Option<usize> = args.next().unwrap().parse().ok();
    let secs: u64 = args.next().unwrap().parse().unwrap();
    for text in args {
        let program = text.parse().unwrap();
        let start = Instant::now();
        let limits = Limits { bound, deadline: Some(start + Duration::from_secs(secs)), executions: None };
        let e = explore::<shipped::Eager>(&program, limits);
        let how = match e.outcome { Outcome::Clean => "clean".into(), Outcome::Capped => "CAPPED".into(), Outcome::Broken(b) => b.to_string() };
        println!("{text}: {} ({} cut) {how} {:.1}s", e.executions, e.cut, start.elapsed().as_secs_f64());
    }
}
