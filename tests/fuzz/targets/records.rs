//! The records inside a datagram: what is read comes out the same when it is written again, and a newer writer is forgiven
//! what cannot be read.

use drcm::{
    model::{BootId, NodeId},
    wire::{Drop, Endpoint, MAX_DATAGRAM, VERSION, put_records, records as read_records},
};

use super::seal::Header;

const KEY: &[u8] = b"the authkey of the fuzzed cluster";
const ME: NodeId = NodeId(2);
const PEER: Header = Header { version: VERSION, readable_from: VERSION, from: 1, to: ME.0, boot: 11, session: 12, counter: 1 };

/// Any records.
pub fn records(bytes: &[u8]) {
    let strict = read_records(bytes);
    if let Some(messages) = &strict {
        let mut written = Vec::new();
        put_records(messages, &mut written);
        assert!(written.len() <= bytes.len(), "records grew when they were written again");
        assert_eq!(read_records(&written).as_ref(), Some(messages));
    }
    if bytes.len() > MAX_DATAGRAM - 58 {
        return;
    }
    let mut endpoint = Endpoint::new(KEY, ME, BootId(22), [NodeId(PEER.from)], [3; 32]);
    prove(&mut endpoint);
    let open = |endpoint: &mut Endpoint, header: Header| endpoint.open(&header.seal(KEY, bytes));
    let ours = open(&mut endpoint, Header { counter: 2, ..PEER });
    let newer = open(&mut endpoint, Header { counter: 3, version: VERSION + 1, ..PEER });
    match (strict, ours) {
        (Some(messages), Ok(opened)) => {
            assert_eq!(opened.messages, messages);
            assert_eq!(newer.expect("a newer writer may write all that we may").messages, messages);
        }
        // The handshake's records are read only under the seal.
        (Some(_) | None, Err(Drop::Malformed)) => assert!(matches!(newer, Ok(_) | Err(Drop::Malformed))),
        (strict, ours) => panic!("{strict:?} without a seal, but {ours:?} under it"),
    }
}

/// Shows an endpoint that the peer lives: by an echo of its challenge.
fn prove(endpoint: &mut Endpoint) {
    let datagram = endpoint.seal(NodeId(PEER.from), &[]).unwrap().remove(0);
    let (header, records) = Header::open(KEY, &datagram).unwrap();
    assert_eq!((header.from, header.to, header.boot), (ME.0, PEER.from, 22));
    let [1, 8, 0, challenge @ ..] = records.as_slice() else { panic!("no challenge in {records:?}") };
    let echo = [&[2, 8, 0], challenge].concat();
    assert!(endpoint.open(&PEER.seal(KEY, &echo)).unwrap().newly_proven);
}
