//! How late queries end that would never end by themselves: the time between their deadline and their end, the longest of
//! some runs; it is to be less than 100 ms. Beside it, of the same run, the time that the processor worked on it meanwhile,
//! which is what counts when the machine has other work. Linux only.

#[path = "../tests/endless/queries.rs"]
mod queries;

use std::time::Duration;

/// Each query is stopped at these times after its start, since what it does differs.
const DEADLINES_MS: [u64; 6] = [20, 50, 100, 200, 400, 1000];

fn main() {
    let storage = queries::storage();
    let mut worst = (Duration::ZERO, Duration::ZERO);
    for query in &queries::queries() {
        let mut latest = (Duration::ZERO, Duration::ZERO);
        let mut how = String::new();
        for deadline in DEADLINES_MS.map(Duration::from_millis) {
            let (late, worked, result) = std::thread::scope(|scope| {
                let at_deadline = scope.spawn(move || {
                    std::thread::sleep(deadline);
                    worked()
                });
                let (late, result) = queries::run(&storage, query, deadline, 1 << 30);
                let until_end = worked();
                let at_deadline = at_deadline.join().expect("no panic");
                (late, until_end.saturating_sub(at_deadline), result)
            });
            latest = latest.max((worked, late));
            how = result.map_or_else(|error| error.to_string(), |()| "an answer".to_owned());
        }
        worst = worst.max(latest);
        let shown: String = query.0.chars().take(70).collect();
        println!("{} late, {} of work  {shown}  ({how})", ms(latest.1), ms(latest.0));
    }
    println!("{} late, {} of work at worst", ms(worst.1), ms(worst.0));
}

fn ms(time: Duration) -> String {
    format!("{:7.1} ms", time.as_secs_f64() * 1e3)
}

/// How long all threads of this process have worked so far, in steps of 10 ms.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 14th and 15th field; the name in front may contain spaces.
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
