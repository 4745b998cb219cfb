//! What a service manager hears of a daemon, at a socket that stands in for its own; and a loop that hangs.

use super::*;
use crate::daemon::manager::tests::heard;
use std::os::unix::net::UnixDatagram;

/// Of the unit. Far longer than a turn takes on any machine, and short for a test.
const WATCHDOG: Duration = Duration::from_millis(600);

#[test]
fn a_manager_hears_of_a_daemon_that_works_and_nothing_of_a_loop_that_hangs() {
    crate::net::namespace::isolated(|| in_network("", watched()));
}

/// The next words, while the loop goes on beside.
async fn next(socket: &Arc<UnixDatagram>) -> String {
    let socket = Arc::clone(socket);
    within("a word", tokio::task::spawn_blocking(move || heard(&socket))).await.unwrap().unwrap()
}

async fn watched() {
    let (_relay, ticket, _serving) = Relay::start(9).await;
    let network = NetworkState::create("test", vec![ticket], &mut SystemRng);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let socket = Arc::new(UnixDatagram::bind(&path).unwrap());
    // For failures only.
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut made, _wire, _progress) = made(&home, "a", network, FileConfig::default(), None).await;
    made.manager = Manager::at(&path, Some(WATCHDOG));
    let control = home.path().join("control");
    let task = spawn_local(made.run());

    assert_eq!(next(&socket).await, "READY=1\n");
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(next(&socket).await, "WATCHDOG=1\n");
    }
    // The first at once, then one each half of its time: no timer is early.
    assert!(began.elapsed() >= WATCHDOG / 2 * 3 - Duration::from_millis(20), "{:?}", began.elapsed());

    let reloaded = within("an answer", call(&control, &Request::Reload)).await.unwrap();
    assert!(matches!(reloaded, Response::Reloaded { .. }), "{reloaded:?}");
    let mut words = next(&socket).await;
    while words == "WATCHDOG=1\n" {
        words = next(&socket).await;
    }
    assert!(words.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{words}");
    assert_eq!(next(&socket).await, "READY=1\n");

    // The thread that turns the loop is kept from it, as by a turn without an end: the manager waits for longer than it would.
    socket.set_nonblocking(true).unwrap();
    while heard(&socket).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(WATCHDOG * 2)).unwrap();
    let silence = heard(&socket).expect_err("nobody feeds it");
    assert_eq!(silence.kind(), io::ErrorKind::WouldBlock);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(next(&socket).await, "WATCHDOG=1\n", "it turns again");

    let left = within("an answer", call(&control, &Request::Down)).await.unwrap();
    assert!(matches!(left, Response::Leaving), "{left:?}");
    let mut words = next(&socket).await;
    while words == "WATCHDOG=1\n" {
        words = next(&socket).await;
    }
    assert_eq!(words, "STOPPING=1\n");
    within("the end", task).await.unwrap().unwrap();
}
