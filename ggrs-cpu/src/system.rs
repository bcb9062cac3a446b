//! What the system says of itself: processor name, processors, memory. It must not know devices.

use std::fs;

/// Memory of the machine in bytes: all of it, and what can be had now. Limits of the control group count.
pub(crate) fn memory() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (mut total, mut free) = meminfo(&text).unwrap_or((u64::MAX, u64::MAX));
    for group in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"] {
        let number = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| read_number(&format!("{group}/{name}")))
        };
        let limit = number(["memory.max", "memory.limit_in_bytes"]);
        let used = number(["memory.current", "memory.usage_in_bytes"]);
        if let (Some(limit), Some(used)) = (limit, used) {
            // File pages that the group could give back count as used by it, but can be had.
            let stat = fs::read_to_string(format!("{group}/memory.stat")).unwrap_or_default();
            let cached = field(&stat, "inactive_file").unwrap_or(0);
            total = total.min(limit);
            free = free.min(limit.saturating_sub(used.saturating_sub(cached)));
        }
    }
    (total, free)
}

/// The processor's name.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

/// Processors that this program may use.
pub(crate) fn n_processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', ':']))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Total and available bytes of /proc/meminfo, which counts in KiB.
fn meminfo(text: &str) -> Option<(u64, u64)> {
    Some((
        field(text, "MemTotal")?.saturating_mul(1024),
        field(text, "MemAvailable")?.saturating_mul(1024),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    700 kB\n";
        assert_eq!(meminfo(text), Some((1_024_000, 716_800)));
        assert_eq!(meminfo("MemTotal: x kB"), None);
        let (total, free) = memory();
        assert!(free > 0 && free <= total);
    }
}
