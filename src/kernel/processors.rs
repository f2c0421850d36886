//! Where the time of the machine's processors goes: /proc/stat (proc_stat(5); `show_stat` in fs/proc/stat.c).

use super::KernelError;
use std::fs;
use std::path::Path;

/// Of more, the first are told of: their time is of interest, not their number.
pub const MOST: usize = 128;

const FILE: &str = "/proc/stat";

/// One processor's time since the machine started, in clock ticks ([`ticks`] a second). Together they are all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processor {
    pub number: u32,
    /// For packets above all: what network cards have brought, and what is sent on.
    pub softirq: u64,
    pub idle: u64,
    /// What the hypervisor gave to others.
    pub steal: u64,
    pub other: u64,
}

impl Processor {
    /// Its later self counts from here: the kernel's idle time may go back a little (proc_stat(5), `iowait`), and a counter must not.
    pub fn at_least(self, before: &Self) -> Self {
        Self {
            number: self.number,
            softirq: self.softirq.max(before.softirq),
            idle: self.idle.max(before.idle),
            steal: self.steal.max(before.steal),
            other: self.other.max(before.other),
        }
    }
}

/// The machine's processors, [`MOST`] of them at most.
pub fn read() -> Result<Vec<Processor>, KernelError> {
    let path = Path::new(FILE);
    let text = fs::read_to_string(path).map_err(|source| KernelError::File { path: path.to_owned(), source })?;
    Ok(parse(&text))
}

/// Clock ticks in a second (`_SC_CLK_TCK`): 100 wherever Linux runs today.
pub fn ticks() -> f64 {
    use nix::unistd::{SysconfVar, sysconf};
    let told = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u32::try_from(ticks).ok());
    f64::from(told.filter(|ticks| *ticks > 0).unwrap_or(100))
}

/// Lines that are no processor's, or not as they should be, are passed over.
fn parse(text: &str) -> Vec<Processor> {
    text.lines().filter_map(processor).take(MOST).collect()
}

/// `cpuN user nice system idle iowait irq softirq steal guest guest_nice`; what guests get is in `user` and `nice` already.
fn processor(line: &str) -> Option<Processor> {
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.strip_prefix("cpu")?.parse().ok()?;
    let times = words.take(8).map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    let &[user, nice, system, idle, iowait, irq, softirq, steal] = times.as_slice() else { return None };
    let other = [user, nice, system, irq].into_iter().fold(0, u64::saturating_add);
    Some(Processor { number, softirq, idle: idle.saturating_add(iowait), steal, other })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEEN: &str = "\
cpu  1709709 385171 326362 790958 19642 0 34791 92202 0 0
cpu0 838396 192738 159832 419783 6272 0 16541 45873 0 0
cpu1 871313 192433 166529 371175 13370 7 18249 46328 11 0
intr 18650869 0 0
ctxt 40777036
";

    #[test]
    fn each_processor_is_told_of_and_not_their_sum() {
        let first = Processor { number: 0, softirq: 16541, idle: 419_783 + 6272, steal: 45873, other: 838_396 + 192_738 + 159_832 };
        let second = Processor { number: 1, softirq: 18249, idle: 371_175 + 13370, steal: 46328, other: 871_313 + 192_433 + 166_529 + 7 };
        assert_eq!(parse(SEEN), [first, second]);
    }

    #[test]
    fn what_is_no_processor_is_passed_over() {
        for line in
            ["", "cpu", "cpu 1 2 3 4 5 6 7 8", "cpux 1 2 3 4 5 6 7 8", "cpu0 1 2 3", "cpu0 1 2 3 4 5 6 x 8", "cpu-1 1 2 3 4 5 6 7 8"]
        {
            assert_eq!(parse(line), [], "{line}");
        }
    }

    #[test]
    fn this_machine_has_processors_and_ticks() {
        let seen = read().unwrap();
        assert!(!seen.is_empty() && seen.iter().any(|one| one.other > 0), "{seen:?}");
        assert!(ticks() >= 1.0);
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_passed_over(text in "(cpu[0-9]{0,12}( [0-9x]{1,22}){0,12}\n?|[a-z]{0,4} ?[0-9]{0,4}\n?){0,40}") {
            prop_assert!(parse(&text).len() <= MOST);
        }

        #[test]
        fn all_time_is_somewhere_and_guests_count_once(times in prop::collection::vec(0u64..1 << 50, 10), number in 0u32..5000) {
            let words: Vec<String> = times.iter().map(u64::to_string).collect();
            let seen = parse(&format!("cpu{number} {}\n", words.join(" ")));
            prop_assert_eq!(seen.len(), 1);
            prop_assert_eq!(seen[0].number, number);
            prop_assert_eq!(seen[0].softirq + seen[0].idle + seen[0].steal + seen[0].other, times[..8].iter().sum::<u64>());
        }

        #[test]
        fn a_machine_of_many_processors_tells_of_the_first(count in 0usize..400) {
            let text: String = (0..count).map(|n| format!("cpu{n} 1 2 3 4 5 6 7 8 9 10\n")).collect();
            let seen: Vec<u32> = parse(&text).iter().map(|one| one.number).collect();
            prop_assert_eq!(seen, (0..count.min(MOST) as u32).collect::<Vec<_>>());
        }

        #[test]
        fn no_time_goes_back(first in prop::collection::vec(0u64..1000, 4), second in prop::collection::vec(0u64..1000, 4)) {
            let of = |t: &[u64]| Processor { number: 3, softirq: t[0], idle: t[1], steal: t[2], other: t[3] };
            let (before, after) = (of(&first), of(&second).at_least(&of(&first)));
            let pairs = [(before.softirq, after.softirq), (before.idle, after.idle), (before.steal, after.steal), (before.other, after.other)];
            prop_assert!(pairs.iter().all(|(before, after)| before <= after));
            prop_assert_eq!(of(&second).at_least(&of(&second)), of(&second));
        }
    }
}
