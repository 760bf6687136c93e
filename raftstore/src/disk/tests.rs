//! What a disk promises, asked of the real and the simulated one; and what only the latter does.

use std::io;
use std::sync::Arc;

use super::sim::{Crash, Fate, Fault, Unsynced};
use super::*;
use crate::region::StoreId;

fn disks() -> Vec<(Option<tempfile::TempDir>, Arc<dyn Disk>)> {
    let direct = SimDisk::new(1);
    direct.set_direct(true);
    let mut disks: Vec<(_, Arc<dyn Disk>)> =
        vec![(None, SimDisk::new(1).mount()), (None, direct.mount())];
    for route in [Route::Written, Route::Mapped, Route::Direct] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = DirDisk::open(dir.path().join("a/b"), route).expect("makes it");
        disks.push((Some(dir), Arc::new(disk)));
    }
    disks
}

#[test]
fn files_and_names_on_every_disk() {
    for (_, disk) in disks() {
        assert_eq!(read(disk.as_ref(), "x").expect("reads"), None);
        replace(disk.as_ref(), "x", b"one").expect("replaces");
        replace(disk.as_ref(), "x", b"three").expect("replaces");
        assert_eq!(read(disk.as_ref(), "x").expect("reads").as_deref(), Some(&b"three"[..]));
        let file = disk.create("y").expect("creates");
        file.write_at(3, b"abc").expect("writes");
        file.sync().expect("syncs");
        let file = disk.open("y").expect("opens");
        assert_eq!(file.len().expect("has a length"), 6);
        let mut buf = [9; 4];
        file.read_at(1, &mut buf).expect("reads");
        assert_eq!(&buf, b"\0\0ab");
        let beyond = file.read_at(4, &mut buf).expect_err("too far");
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        disk.rename("y", "x").expect("renames");
        assert_eq!(disk.list().expect("lists"), ["x"]);
        assert_eq!(disk.create("x").expect("creates").len().expect("has a length"), 0);
        disk.remove("x").expect("removes");
        disk.sync_dir().expect("syncs");
        let gone = disk.open("x").expect_err("gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(disk.remove("x").is_err() && disk.rename("x", "z").is_err());
        assert_eq!(disk.list().expect("lists").len(), 0);
        assert_ne!(disk.random(), disk.random());
    }
}

#[test]
fn log_files_on_every_disk() {
    for (_, disk) in disks() {
        disk.create_log("log", 16_384, &|_| true).expect("creates");
        let mut log = disk.append_log("log").expect("opens");
        let view = log.view();
        assert_eq!((log.len(), view.len()), (16_384, 0));
        assert_eq!(view.bytes(0..1), None, "not written yet");
        log.append(&[1; 8192]).expect("appends");
        let lent = view.bytes(4000..5000).expect("written");
        log.append(&[2; 4096]).expect("appends");
        assert_eq!(view.bytes(8191..8193).expect("not durable yet"), [1, 2][..]);
        assert_eq!(view.after(8192).expect("not durable yet")[..], [2; 4096]);
        log.flush().run().expect("syncs");
        let error = log.append(&[3; 8192]).expect_err("does not fit");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(lent, [1; 1000][..]);
        assert_eq!(view.bytes(8191..8193).expect("written"), [1, 2][..]);
        assert_eq!(view.bytes(12_287..12_289), None);
        log.seal().expect("seals");
        assert!(log.append(&[3; 4096]).is_err());
        drop(log);
        disk.rename("log", "old").expect("renames");
        let whole = disk.view_log("old").expect("opens");
        let ends = whole.bytes(0..16_384).map(|b| (b[8191], b[8192], b[16_383]));
        assert_eq!(ends, Some((1, 2, 0)));
        assert_eq!(whole.bytes(0..16_385), None);
        disk.remove("old").expect("removes");
        assert_eq!(lent, [1; 1000][..], "lent bytes outlive the file's name");
    }
}

/// Who makes a long file lets others have the disk in between, and hears how far it is; wanted no
/// more, it is gone.
#[test]
fn a_log_file_is_filled_as_long_as_it_is_wanted() {
    for route in [Route::Written, Route::Mapped, Route::Direct] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = DirDisk::open(dir.path(), route).expect("opens");
        let told = std::cell::RefCell::new(Vec::new());
        let tell = |written, until| {
            told.borrow_mut().push(written);
            written < until
        };
        assert!(disk.create_log("log", 3 << 20, &|at| tell(at, u64::MAX)).expect("room"));
        let told = told.take();
        assert!(told.len() >= 3 && told.is_sorted(), "{route:?}: {told:?}");
        assert_eq!(told.last(), Some(&(3 << 20)), "{route:?}");
        let is_there = disk.create_log("other", 3 << 20, &|at| tell(at, 2 << 20)).expect("room");
        assert_eq!((is_there, disk.list().expect("lists")), (false, vec!["log".to_owned()]));
    }
}

/// Bytes that somebody reads before they are handed out to be written are written all the same,
/// whether they are few, and joined to one write, or many.
#[test]
fn what_is_read_while_it_gathers_is_written_in_its_place() {
    for (_, disk) in disks().into_iter().filter(|(_, disk)| disk.flushes_max() > 1) {
        disk.create_log("log", 4 << 20, &|_| true).expect("creates");
        let mut log = disk.append_log("log").expect("opens");
        let view = log.view();
        let content: Vec<u8> = (0..3u32 << 20).map(|at| (at / 512 % 251) as u8).collect();
        let mut end = 0;
        for bytes in [512, 4096, 200 << 10, 512, 1 << 20] {
            let from = end;
            for _ in 0..2 {
                log.append(&content[end..end + bytes]).expect("appends");
                end += bytes;
                assert_eq!(
                    view.after(end as u64 - 512).expect("there")[..512],
                    content[end - 512..end]
                );
                assert_eq!(
                    view.bytes(from as u64..end as u64).expect("there")[..],
                    content[from..end]
                );
            }
            log.append(&content[end..end + 512]).expect("appends");
            end += 512;
            log.flush().run().expect("writes");
            assert_eq!(view.bytes(0..end as u64).expect("there")[..], content[..end]);
        }
        drop((log, view));
        let view = disk.view_log("log").expect("there");
        assert_eq!(view.bytes(0..end as u64).expect("there")[..], content[..end]);
    }
}

/// Several writes of one file on their way, landing in another order than they began.
#[test]
fn writes_past_the_cache_land_in_any_order() {
    for (_, disk) in disks().into_iter().filter(|(_, disk)| disk.flushes_max() > 1) {
        disk.create_log("log", 64 << 10, &|_| true).expect("creates");
        let mut log = disk.append_log("log").expect("opens");
        let view = log.view();
        let content: Vec<u8> = (0..64u32 << 10).map(|at| (at / 512) as u8).collect();
        let mut flushes = Vec::new();
        for (n, part) in content.chunks(4096).enumerate() {
            part.chunks(512).for_each(|block| log.append(block).expect("appends"));
            flushes.push(log.flush());
            if n % 3 == 2 {
                flushes.rotate_left(2);
                let last = flushes.pop().expect("one of them");
                last.run().expect("writes");
            }
            // In memory, on its way, landed with a gap before it or without: it is all the same.
            let end = (n + 1) * 4096;
            assert_eq!(view.bytes(0..end as u64).expect("appended")[..], content[..end]);
            for at in (0..end).step_by(512) {
                let rest = view.after(at as u64).expect("appended");
                assert_eq!(rest[..512], content[at..at + 512]);
            }
        }
        flushes.iter().rev().for_each(|flush| flush.run().expect("writes"));
        assert!(log.append(&[0; 512]).is_err(), "it is full");
        log.seal().expect("seals");
        let file = disk.open("log").expect("opens");
        let mut read = vec![0; content.len()];
        file.read_at(0, &mut read).expect("reads");
        assert_eq!(read, content, "by the other way, too");
        drop((flushes, log));
        assert!(!view.is_lent(), "the file may be written again");
    }
}

/// A record that is not made of whole blocks would make a block be written twice.
#[test]
fn what_is_not_a_whole_block_is_refused() {
    for (_, disk) in disks().into_iter().filter(|(_, disk)| disk.block_bytes() > 1) {
        disk.create_log("log", 8192, &|_| true).expect("creates");
        let mut log = disk.append_log("log").expect("opens");
        let error = log.append(&[1; 100]).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

/// The whole of what a full disk does, on a file system that is really full, needs root; here the
/// simulated one, and that nothing is left behind (museum W16).
#[test]
fn w16_a_log_file_without_room_is_not_made() {
    let drive = SimDisk::new(1);
    let disk = drive.mount();
    drive.set_capacity(Some(10_000));
    let error = disk.create_log("log", 12_288, &|_| true).expect_err("no room");
    assert!(is_full(&error));
    assert_eq!((drive.used(), disk.list().expect("lists").len()), (0, 0));
    disk.create_log("log", 8_192, &|_| true).expect("there is room");
    let small = disk.create("small").expect("creates");
    assert!(is_full(&small.write_at(0, &[1; 2_000]).expect_err("no room")));
    assert_eq!(drive.used(), 8_192);
}

/// One store at a time (museum W18).
#[test]
fn w18_a_directory_has_one_user() {
    for (_, disk) in disks() {
        let claim = Claim::new(disk.as_ref(), StoreId(3), ClusterId(9)).expect("free");
        let error = Claim::new(disk.as_ref(), StoreId(3), ClusterId(9)).expect_err("taken");
        let text = format!("process {} (store 3)", std::process::id());
        assert!(matches!(&error, IdentityError::InUse { owner } if *owner == text), "{error}");
        let identity = *claim.identity();
        drop(claim);
        let again = Claim::new(disk.as_ref(), StoreId(3), ClusterId(9)).expect("free again");
        assert_eq!(*again.identity(), identity, "the generation stays");
        drop(again);
        let other = Claim::new(disk.as_ref(), StoreId(4), ClusterId(9)).expect_err("not its own");
        assert!(matches!(other, IdentityError::OtherStore { owner: StoreId(3), .. }), "{other}");
        let other = Claim::new(disk.as_ref(), StoreId(3), ClusterId(8)).expect_err("not its own");
        assert!(
            matches!(other, IdentityError::OtherCluster { owner: ClusterId(9), .. }),
            "{other}"
        );
        assert!(other.to_string().contains("cluster 9 (its store 3), not to cluster 8"), "{other}");
    }
}

#[test]
fn a_damaged_identity_is_nobodys() {
    let drive = SimDisk::new(1);
    drop(Claim::new(drive.mount().as_ref(), StoreId(3), ClusterId(9)).expect("free"));
    for bit in 0..8 * 44 {
        let drive = drive.fork();
        drive.damage(identity::IDENTITY_FILE, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let error = Claim::new(drive.mount().as_ref(), StoreId(3), ClusterId(9));
        assert!(matches!(error, Err(IdentityError::Damaged { .. })), "bit {bit}");
    }
    for len in 0..44 {
        let drive = drive.fork();
        drive.damage(identity::IDENTITY_FILE, |bytes| bytes.truncate(len));
        let error = Claim::new(drive.mount().as_ref(), StoreId(3), ClusterId(9));
        assert!(matches!(error, Err(IdentityError::Damaged { .. })), "{len} bytes");
    }
}

/// Every image of every moment of `run`; how many.
fn each_image(drive: &SimDisk, run: impl Fn(&dyn Disk), check: impl Fn(&SimDisk)) -> u64 {
    drive.record();
    run(drive.mount().as_ref());
    let end = drive.fork();
    let moments = drive.recorded();
    let mut count = 0;
    for moment in moments.iter().map(|moment| &moment.disk).chain([&end]) {
        let mut things = 0;
        moment.fork().lose_power(&mut |_| {
            things += 1;
            Fate::Lost
        });
        for set in 0..1u32 << things {
            let image = moment.fork();
            let mut bits = (0..things).map(|i| set >> i & 1 == 1);
            image.lose_power(&mut |_| match bits.next() {
                Some(true) => Fate::Kept(0),
                _ => Fate::Lost,
            });
            check(&image);
            count += 1;
        }
    }
    count
}

/// A small file is replaced wholly or not at all, whatever is lost (museum P5).
#[test]
fn p5_a_small_file_is_old_or_new_never_neither() {
    let drive = SimDisk::new(1);
    replace(drive.mount().as_ref(), "f", b"old").expect("replaces");
    let run = |disk: &dyn Disk| replace(disk, "f", b"newer").expect("replaces");
    let images = each_image(&drive, run, |image| {
        let content = image.content("f").expect("never neither");
        assert!(content == b"old" || content == b"newer", "{content:?}");
    });
    assert!(images > 15, "{images}");
    drive.lose_power(&mut |_| Fate::Lost);
    assert_eq!(drive.content("f").as_deref(), Some(&b"newer"[..]), "durable on return");
}

/// The first start is cut off anywhere: the next one begins again, or goes on (museum W25).
#[test]
fn w25_a_crash_at_the_first_start_is_started_over() {
    let drive = SimDisk::new(1);
    let run = |disk: &dyn Disk| {
        drop(Claim::new(disk, StoreId(3), ClusterId(9)).expect("free"));
    };
    let images = each_image(&drive, run, |image| {
        let claim = Claim::new(image.mount().as_ref(), StoreId(3), ClusterId(9));
        let identity = *claim.expect("free").identity();
        image.lose_power(&mut |_| Fate::Lost);
        let again = Claim::new(image.mount().as_ref(), StoreId(3), ClusterId(9));
        assert_eq!(*again.expect("free").identity(), identity, "durable once claimed");
    });
    assert!(images > 15, "{images}");
}

#[test]
fn a_sector_keeps_every_content_it_had() {
    for kept in 0..4 {
        let drive = SimDisk::new(1);
        let disk = drive.mount();
        let file = disk.create("f").expect("creates");
        file.write_at(0, &[1; 600]).expect("writes");
        file.sync().expect("syncs");
        disk.sync_dir().expect("syncs");
        for byte in [2, 3, 4] {
            file.write_at(0, &[byte; 100]).expect("writes");
        }
        let mut asked = Vec::new();
        drive.lose_power(&mut |thing| {
            asked.push(format!("{thing:?}"));
            if kept == 0 { Fate::Lost } else { Fate::Kept(kept - 1) }
        });
        assert_eq!(asked, [r#"Sector { file: "f", sector: 0, versions: 3 }"#]);
        let content = drive.content("f").expect("durable");
        assert_eq!((content[0], content[100], content.len()), (1 + kept as u8, 1, 600));
    }
}

/// Tearing reaches up to the end of the sector, and not back over what did not change.
#[test]
fn a_torn_sector_is_garbage_only_behind_what_was_synced() {
    let mut garbage = 0;
    for seed in 0..200 {
        let drive = SimDisk::new(seed);
        let disk = drive.mount();
        let file = disk.create("f").expect("creates");
        file.write_at(0, &[1; 1024]).expect("writes");
        file.sync().expect("syncs");
        disk.sync_dir().expect("syncs");
        file.write_at(200, &[2; 100]).expect("writes");
        drive.lose_power(&mut |_| Fate::Torn);
        let content = drive.content("f").expect("durable");
        assert!(content[..200].iter().chain(&content[512..]).all(|byte| *byte == 1));
        garbage += usize::from(content[200..512].iter().any(|byte| *byte > 2));
    }
    assert!(garbage > 50, "{garbage}");
}

#[test]
fn names_are_lost_one_by_one() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let drive = SimDisk::new(seed);
        let disk = drive.mount();
        for name in ["a", "b"] {
            disk.create(name).expect("creates");
        }
        disk.sync_dir().expect("syncs");
        disk.remove("a").expect("removes");
        disk.rename("b", "c").expect("renames");
        drive.crash(Crash::Power);
        seen.insert(drive.mount().list().expect("lists").join(""));
    }
    let all: Vec<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(all, ["ab", "ac", "b", "c"]);
}

/// Made and removed, and neither is durable: a power failure after a crash of the process may keep
/// the name and lose its removal.
#[test]
fn a_file_that_was_removed_may_be_back() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let drive = SimDisk::new(seed);
        let disk = drive.mount();
        disk.create("a").expect("creates").write_at(0, b"x").expect("writes");
        disk.remove("a").expect("removes");
        drive.crash(Crash::Process);
        drive.crash(Crash::Power);
        seen.insert(drive.content("a").is_some());
        assert!(drive.used() < 2);
    }
    assert_eq!(seen.len(), 2);
}

/// What a drive does at rest: a lost write shows what was there before, a sector cannot be read
/// until it is written again.
#[test]
fn sectors_at_rest_go_back_or_go() {
    for is_direct in [false, true] {
        let drive = SimDisk::new(1);
        drive.set_direct(is_direct);
        let disk = drive.mount();
        disk.create_log("f", 1536, &|_| true).expect("creates");
        disk.sync_dir().expect("syncs");
        let mut log = disk.append_log("f").expect("opens");
        log.append(&[1; 1024]).expect("appends");
        log.flush().run().expect("syncs");
        assert_eq!(drive.before("f", 1), Some([0; 512]), "what was there before the append");
        drive.make_unreadable("f", 1);
        let view = disk.view_log("f").expect("the file is there");
        assert_eq!(view.bytes(0..512).as_deref(), Some(&[1; 512][..]));
        assert_eq!((view.bytes(0..513), view.bytes(1000..1100)), (None, None));
        assert_eq!(view.bytes(1024..1536).as_deref(), Some(&[0; 512][..]));
        let file = disk.open("f").expect("opens");
        assert!(file.read_at(511, &mut [0; 2]).is_err());
        file.write_at(512, &[2; 512]).expect("the drive takes another sector");
        let mut back = [0; 512];
        file.read_at(512, &mut back).expect("it can be read again");
        assert_eq!(back, [2; 512]);
    }
}

/// After a failed sync the cache shows the bytes, later syncs succeed, and the disk need not have
/// them (museum W10).
#[test]
fn w10_a_failed_sync_leaves_clean_pages() {
    let mut lost = 0;
    for seed in 0..50 {
        let drive = SimDisk::new(seed);
        let disk = drive.mount();
        let file = disk.create("f").expect("creates");
        file.write_at(0, &[1; 512]).expect("writes");
        file.sync().expect("syncs");
        disk.sync_dir().expect("syncs");
        file.write_at(0, &[2; 512]).expect("writes");
        drive.fail(0, Fault::Error);
        assert!(file.sync().is_err());
        file.sync().expect("the second one succeeds");
        assert_eq!(drive.content("f").expect("there")[0], 2);
        drive.lose_power(&mut |_: &Unsynced<'_>| Fate::Kept(0));
        lost += usize::from(drive.content("f").expect("there")[0] == 1);
    }
    assert!((5..45).contains(&lost), "{lost}");
}

#[test]
fn a_crash_ends_every_handle() {
    for crash in [Crash::Process, Crash::Power] {
        let drive = SimDisk::new(1);
        let disk = drive.mount();
        let lock = disk.lock("me").expect("free");
        let file = disk.create("f").expect("creates");
        file.sync().expect("syncs");
        disk.sync_dir().expect("syncs");
        drive.fail(1, Fault::PowerCut);
        file.write_at(0, b"x").expect("before the cut");
        assert!(file.sync().is_err() && disk.list().is_err());
        drive.crash(crash);
        assert!(file.write_at(0, b"y").is_err() && disk.list().is_err());
        let next = drive.mount();
        let mine = next.lock("other").expect("the lock went with the process");
        drop(lock);
        assert!(next.lock("third").is_err(), "an old lock is not the new one's");
        drop(mine);
        assert_eq!(next.list().expect("lists"), ["f"]);
    }
}

#[test]
fn one_seed_is_one_disk() {
    let run = |seed| {
        let drive = SimDisk::new(seed);
        let disk = drive.mount();
        for name in ["a", "b", "c"] {
            disk.create_log(name, 4096, &|_| true).expect("creates");
            let mut log = disk.append_log(name).expect("opens");
            log.append(&[7; 3000]).expect("appends");
            disk.sync_dir().expect("syncs");
            log.append(&disk.random().to_le_bytes()).expect("appends");
        }
        drive.crash(Crash::Power);
        ["a", "b", "c"].map(|name| drive.content(name))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
