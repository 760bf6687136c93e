//! What the log needs of the operating system and the standard library does not offer: allocating
//! blocks, asking what kind of file system there is, and having the last word before a bus error.
//!
//! # Bus errors
//!
//! Reading a mapped file where it has no bytes any more (somebody cut it short) or where the device
//! cannot give them ends in SIGBUS: there is no error to return, and no way on. By default the
//! process vanishes without a word. [`tell_bus_errors`] has it say which byte of which file that was,
//! and then abort (`reliability/wal.md` rule 14). The handler looks the address up in the kernel's
//! own table of maps, so nobody has to register anything; it takes no lock and allocates nothing.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// Reserves blocks for `len` bytes, so that writing them, by whatever route, can't lack space.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is passed.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The number that says of which kind the file system of an open file is, as in `statfs(2)`.
pub(crate) fn file_system(file: &File) -> io::Result<u32> {
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and `found` is as large as
    // what is written to it.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so all of it was written.
    let found = unsafe { found.assume_init() };
    // These numbers have 32 bits, in a type that some machines take for a signed one.
    Ok(found.f_type as u32)
}

/// From now on a bus error says on standard error where it happened, and aborts the process.
///
/// # Errors
/// If the operating system takes no handler.
pub(crate) fn tell_bus_errors() -> io::Result<()> {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_bus_error;
    // SAFETY: zeros are a valid `sigaction`: no flags, no signal blocked, the default handler.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the type that SA_SIGINFO asks for, and does nothing that a handler
    // must not do; nobody wants the old one.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_bus_error(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid one, nobody else has it, and it outlives the handler.
    let info = unsafe { &*info };
    // SAFETY: for this signal the kernel fills the address in.
    let address = unsafe { info.si_addr() } as u64;
    let mut line = [0; 1024];
    let mut text = io::Cursor::new(&mut line[..]);
    // What does not fit is left out; there is nobody to tell if nothing can be written.
    let _ = match find_map(address) {
        Some(found) => {
            let (path, path_len) = found.path;
            let start = write!(text, "bus error at byte {} of ", found.offset);
            let middle = start.and_then(|()| text.write_all(&path[..path_len]));
            middle.and_then(|()| text.write_all(CAUSE))
        }
        None => writeln!(text, "bus error at address {address:#x}, of no file"),
    };
    let written = text.position() as usize;
    // SAFETY: the range is within `line`.
    let _ = unsafe { libc::write(2, line.as_ptr().cast(), written) };
    std::process::abort();
}

const CAUSE: &[u8] = b": it was cut short under its map, or the disk failed; stopping\n";

/// A place in a mapped file.
struct Place {
    path: ([u8; 512], usize),
    offset: u64,
}

/// Which byte of which file is mapped there. In a signal handler, so it reads with buffers of its
/// own.
fn find_map(address: u64) -> Option<Place> {
    let mut maps = File::open("/proc/self/maps").ok()?;
    let (mut buffer, mut line, mut len) = ([0; 1024], [0; 768], 0);
    loop {
        let read = maps.read(&mut buffer).ok().filter(|read| *read > 0)?;
        for &byte in &buffer[..read] {
            if byte != b'\n' {
                // (A path that is too long is cut.)
                if len < line.len() {
                    line[len] = byte;
                    len += 1;
                }
                continue;
            }
            if let Some(found) = place_in(&line[..len], address) {
                return Some(found);
            }
            len = 0;
        }
    }
}

/// The place of `address` if that line of the table has it:
/// `start-end permissions offset device inode path`.
fn place_in(line: &[u8], address: u64) -> Option<Place> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut range = fields.next()?.split(|byte| *byte == b'-');
    let (start, end) = (hex(range.next()?)?, hex(range.next()?)?);
    if !(start..end).contains(&address) {
        return None;
    }
    let offset = hex(fields.nth(1)?)?;
    let path = &line[line.iter().position(|byte| *byte == b'/')?..];
    let mut kept = [0; 512];
    let len = path.len().min(kept.len());
    kept[..len].copy_from_slice(&path[..len]);
    Some(Place { path: (kept, len), offset: offset + (address - start) })
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_its_address() {
        let line = b"7f0000001000-7f0000003000 r--s 00002000 fd:00 123    /data/my files/wal-1.log";
        let place = place_in(line, 0x7f00_0000_1010).expect("it is in there");
        assert_eq!(&place.path.0[..place.path.1], b"/data/my files/wal-1.log");
        assert_eq!(place.offset, 0x2010);
        assert!(place_in(line, 0x7f00_0000_3000).is_none(), "behind its end");
        assert!(place_in(b"", 0).is_none() && place_in(b"0-ff rw-p 0 0 0", 1).is_none());
    }
}
