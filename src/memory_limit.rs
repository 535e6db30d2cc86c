//! How much memory the process may use: what its control group allows, or what the machine has.

use std::path::{Component, Path};

/// Assumed where nothing can be found out.
const UNKNOWN_BYTES: u64 = 2 << 30;

/// The limit of this process in bytes, times `ratio`.
pub fn of_process(ratio: f64) -> u64 {
    let limit = limit(&|path| std::fs::read_to_string(path).ok()).unwrap_or(UNKNOWN_BYTES);
    (limit as f64 * ratio.clamp(0.0, 1.0)) as u64
}

/// The least of what the control groups, of either version, and the machine say. `read` reads a file.
fn limit(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let mut limits: Vec<u64> = Vec::new();
    for line in read(Path::new("/proc/self/cgroup")).unwrap_or_default().lines() {
        // `0::/path` of version 2, `4:memory:/path` of version 1.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (Path::new("/sys/fs/cgroup"), "memory.max"),
            some if some.split(',').any(|name| name == "memory") => {
                (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // A group is limited by all those around it. In a container the path may be that outside; then the root is its own.
        let inside = Path::new(group).components().filter(|part| matches!(part, Component::Normal(_)));
        let folder = inside.fold(root.to_owned(), |folder, part| folder.join(part));
        let around = folder.ancestors().take_while(|folder| folder.starts_with(root));
        limits.extend(around.filter_map(|folder| read(&folder.join(file)).and_then(number)));
    }
    let meminfo = read(Path::new("/proc/meminfo")).unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    limits.extend(kib.map(|kib| kib.saturating_mul(1024)));
    limits.into_iter().filter(|bytes| *bytes > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts() {
        let check = |files: &[(&str, &str)], want: Option<u64>| {
            let read = |path: &Path| {
                files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(limit(&read), want, "{files:?}");
        };
        let machine = ("/proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n");
        check(&[], None);
        check(&[machine], Some(2 << 20));
        check(&[machine, ("/proc/self/cgroup", "0::/a/b\n")], Some(2 << 20));
        let of_parent = ("/sys/fs/cgroup/a/memory.max", "1000\n");
        let unlimited = ("/sys/fs/cgroup/a/b/memory.max", "max\n");
        check(&[machine, ("/proc/self/cgroup", "0::/a/b\n"), of_parent, unlimited], Some(1000));
        let first = ("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n");
        let second = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
        let groups = ("/proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n");
        check(&[machine, groups, first], Some(2 << 20));
        check(&[machine, groups, first, second], Some(4096));
    }

    #[test]
    fn this_process_has_a_limit() {
        assert!(of_process(0.5) > 0 && of_process(0.5) < of_process(1.0));
    }
}
