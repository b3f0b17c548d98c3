//! CPU time, chunks and statistics.

/// CPU time of the calling thread, in nanoseconds.
pub fn thread_time() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of the whole process, in nanoseconds.
pub fn process_time() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local.
    let result = unsafe { libc::clock_gettime(id, &mut time) };
    assert_eq!(result, 0, "the system has CPU clocks");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Puts the calling thread on the processor `index`, or the one that follows from that where there are fewer. Two threads that the system
/// leaves on one processor measure how well they take turns.
pub fn pin(index: usize) {
    let processor = index % std::thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: a set is plain bits; the calls read and write the local.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result != 0 {
        eprintln!("a thread could not be put on processor {processor}: {}", std::io::Error::last_os_error());
    }
}

/// One thing to be measured: does `n` units of work.
pub struct Case {
    /// The column.
    pub kernel: &'static str,
    /// The row.
    pub side: String,
    /// Does as many units as it is told.
    pub work: Box<dyn FnMut(u64)>,
    /// Units of one chunk.
    chunk: u64,
    /// Nanoseconds a unit, of each chunk.
    pub samples: Vec<f64>,
}

impl Case {
    /// A case.
    pub fn new(kernel: &'static str, side: impl Into<String>, work: impl FnMut(u64) + 'static) -> Self {
        Case { kernel, side: side.into(), work: Box::new(work), chunk: 0, samples: Vec::new() }
    }

    /// Finds how many units take about `nanoseconds`; also the warm-up.
    fn calibrate(&mut self, nanoseconds: u64) {
        let mut units = 1;
        loop {
            let start = thread_time();
            (self.work)(units);
            let spent = thread_time() - start;
            if spent * 2 >= nanoseconds {
                self.chunk = (units * nanoseconds / spent.max(1)).max(1);
                return;
            }
            units *= 2;
        }
    }

    fn sample(&mut self) {
        let start = thread_time();
        (self.work)(self.chunk);
        let spent = thread_time() - start;
        self.samples.push(spent as f64 / self.chunk as f64);
    }

    /// The least of the samples: what the code costs when nothing disturbs it.
    pub fn least(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The median of the samples.
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }
}

/// The median.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Measures all cases in turn, `rounds` times over, so that a disturbance hits all of them alike.
pub fn interleave(cases: &mut [Case], rounds: usize) {
    for case in cases.iter_mut() {
        case.calibrate(500_000);
    }
    for _ in 0..rounds {
        for case in cases.iter_mut() {
            case.sample();
        }
    }
}
