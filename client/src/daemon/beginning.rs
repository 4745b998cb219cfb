//! Gives back what only the beginning of a daemon needed.
//!
//! Reading the command line, the state and the device's settings walks through most of the program once, and the kernel maps what lies around each
//! page as well: 9 MB of code that stay resident for a daemon that runs for months with a quarter of it. Once it runs, all of its code is forgotten;
//! what is used comes back out of the page cache, within the first packets.

use std::fs;
use std::time::Duration;

/// How long a beginning is, at most: the first relay, the first peers.
pub(super) const LENGTH: Duration = Duration::from_secs(10);

/// Forgets the code that is mapped. It is only ever read, so nothing is lost.
pub(super) fn forget() {
    let (Ok(maps), Ok(program)) = (fs::read_to_string("/proc/self/maps"), fs::read_link("/proc/self/exe"))
    else {
        return;
    };
    for (begin, len) in code_of(&maps, &program.to_string_lossy()) {
        // SAFETY: the range is a private mapping of the program's file that can be executed and not written, by the kernel's own list: none of its
        // pages was ever changed, and each is read again from the file when it is next used (madvise(2), MADV_DONTNEED). Nobody unmaps it.
        let _ = unsafe { libc::madvise(begin as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Where the code of `program` is and how long, by what proc(5) says of a process's memory.
fn code_of(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let code = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        // What is mapped of a file that was replaced meanwhile has another name, and is left alone.
        let is_code = rights == "r-xp" && fields.nth(3)? == program && fields.next().is_none();
        let (begin, end) = range.split_once('-').filter(|_| is_code)?;
        let (begin, end) = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((begin, end.checked_sub(begin)?))
    };
    maps.lines().filter_map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_forgotten() {
        let maps = "\
55d0c0000000-55d0c0148000 r--p 00000000 fd:00 42 /usr/bin/shadowmesh
55d0c0148000-55d0c0c4e000 r-xp 00148000 fd:00 42 /usr/bin/shadowmesh
55d0c0c4e000-55d0c0c99000 r--p 00c4e000 fd:00 42 /usr/bin/shadowmesh
55d0c0c99000-55d0c0ca2000 rw-p 00c99000 fd:00 42 /usr/bin/shadowmesh
7f0000000000-7f0000100000 r-xp 00000000 fd:00 43 /usr/lib/libc.so.6
7f0000200000-7f0000201000 r-xp 00000000 fd:00 42 /usr/bin/shadowmesh (deleted)
7f0000300000-7f0000301000 r-xp 00000000 00:00 0
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
a line of another kind
";
        assert_eq!(code_of(maps, "/usr/bin/shadowmesh"), [(0x55d0_c014_8000, 0xb0_6000)]);
        assert_eq!(code_of("", "/usr/bin/shadowmesh"), []);
    }

    fn resident_file_kb() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_was_forgotten_is_there_when_it_is_used() {
        // All of this program's code, once.
        let (maps, program) =
            (fs::read_to_string("/proc/self/maps").unwrap(), fs::read_link("/proc/self/exe").unwrap());
        let code = code_of(&maps, &program.to_string_lossy());
        assert_eq!(code.len(), 1, "{maps}");
        let (begin, len) = code[0];
        let read = |at: usize| {
            // SAFETY: `at` lies in a mapping of this program's code, which can be read and stays.
            unsafe { std::ptr::read_volatile((begin + at) as *const u8) }
        };
        let sum = || (0..len).step_by(4096).map(|at| u64::from(read(at))).sum::<u64>();
        let (whole, before) = (sum(), resident_file_kb());
        forget();
        let after = resident_file_kb();
        assert!(
            after + (len as u64 >> 11) < before,
            "{before} kB before, {after} kB after, {len} bytes of code"
        );
        assert_eq!(sum(), whole);
    }
}
