//! Gives back what only the beginning of a daemon needed.
//!
//! Reading the command line, the state and the device's settings walks through most of the program once, and the kernel maps what lies around each
//! page as well: 14 MB of code and constants, its own and of libraries, that stay resident for a daemon that runs for months with a part of it. Once
//! it runs, all of that is forgotten; what is used comes back out of the page cache, within the first packets. A peer that joins walks through other
//! parts, once, so it is done again, ever less often.

use std::fs;
use std::time::Duration;

/// How long a beginning is, at most: the first relay, the first peers.
pub(super) const LENGTH: Duration = Duration::from_secs(10);
/// It is forgotten again after this at the latest.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Forgets what is mapped of files and was never written. It is only ever read, so nothing is lost.
pub(super) fn forget() {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    for (begin, len) in unwritten(&maps) {
        // SAFETY: the range is a private mapping of a file that cannot be written, and by the kernel's own list none of its pages ever was: each is
        // read again from the file when it is next used (madvise(2), MADV_DONTNEED). Should somebody have unmapped it, or changed it, since the list
        // was made, it would be somebody who loads and unloads libraries in the first seconds of a daemon: there is nobody who does.
        let _ = unsafe { libc::madvise(begin as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Where files are mapped that cannot be written and never were, and how long, by what proc(5) says of a process's memory.
fn unwritten(maps: &str) -> Vec<(usize, usize)> {
    let mut found = vec![];
    let mut mapping = None;
    for line in maps.lines() {
        mapping = mapping_of(line).unwrap_or(mapping);
        let mut fields = line.split_ascii_whitespace();
        let (name, kilobytes) = (fields.next(), fields.next());
        // What was written once and is read only since, such as addresses that the linker left to the loader, is here or in the swap.
        match (name, kilobytes) {
            (Some("Anonymous:" | "Swap:"), Some("0")) => {}
            (Some("Anonymous:" | "Swap:"), _) => mapping = None,
            (Some("VmFlags:"), _) => found.extend(mapping.take()),
            _ => {}
        }
    }
    found
}

/// `None` where no mapping begins with this line; else the mapping, if it is of a file and cannot be written.
fn mapping_of(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let (begin, end) = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let rights = fields.next()?;
    // The loader's list of libraries is mapped for moments, when one is loaded.
    let is_of_file = fields.nth(3).is_some_and(|path| path.starts_with('/') && !path.starts_with("/etc/"));
    let is_unwritable = matches!(rights.as_bytes(), [_, b'-', _, b'p']);
    Some(Some((begin, end.checked_sub(begin)?)).filter(|_| is_of_file && is_unwritable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_forgotten() {
        let mapping = |line: &str, anonymous: u32, swap: u32| {
            format!("{line}\nSize: 4 kB\nAnonymous: {anonymous} kB\nSwap: {swap} kB\nVmFlags: rd mr mw me \n")
        };
        let maps = [
            mapping("55d0c0000000-55d0c0148000 r--p 00000000 fd:00 42 /usr/bin/shadowmesh", 0, 0),
            mapping("55d0c0148000-55d0c0c4e000 r-xp 00148000 fd:00 42 /usr/bin/shadowmesh", 0, 0),
            mapping("55d0c0c4e000-55d0c0c99000 r--p 00c4e000 fd:00 42 /usr/bin/shadowmesh", 300, 0),
            mapping("55d0c0c99000-55d0c0c9a000 r--p 00c4e000 fd:00 42 /usr/bin/shadowmesh", 0, 4),
            mapping("55d0c0c99000-55d0c0ca2000 rw-p 00c99000 fd:00 42 /usr/bin/shadowmesh", 0, 0),
            mapping("7f0000000000-7f0000100000 r-xp 00000000 fd:00 43 /usr/lib/libc.so.6", 0, 0),
            mapping("7f0000180000-7f0000188000 r--p 00000000 fd:00 45 /etc/ld.so.cache", 0, 0),
            mapping("7f0000200000-7f0000201000 r--s 00000000 fd:00 44 /var/cache/shared", 0, 0),
            mapping("7f0000300000-7f0000301000 r-xp 00000000 00:00 0", 0, 0),
            mapping("7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]", 0, 0),
        ];
        let expected =
            [(0x55d0_c000_0000, 0x14_8000), (0x55d0_c014_8000, 0xb0_6000), (0x7f00_0000_0000, 0x10_0000)];
        assert_eq!(unwritten(&maps.concat()), expected);
        assert_eq!(unwritten("a line of another kind\n"), []);
        assert_eq!(unwritten(""), []);
    }

    fn resident_file_kb() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_was_forgotten_is_there_when_it_is_used() {
        // All of this program's code and constants, once.
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mappings = unwritten(&maps);
        let all: usize = mappings.iter().map(|(_, len)| len).sum();
        assert!(mappings.len() > 2 && all > 1 << 20, "{maps}");
        let read = |at: usize| {
            // SAFETY: `at` lies in a mapping of this program or of a library, which can be read and stays.
            unsafe { std::ptr::read_volatile(at as *const u8) }
        };
        let pages = || mappings.iter().flat_map(|(begin, len)| (*begin..begin + len).step_by(4096));
        let sum = || pages().map(|at| u64::from(read(at))).sum::<u64>();
        let (whole, before) = (sum(), resident_file_kb());
        forget();
        let after = resident_file_kb();
        assert!(
            after + (all as u64 >> 11) < before,
            "{before} kB before, {after} kB after, {all} bytes mapped"
        );
        assert_eq!(sum(), whole);
    }
}
