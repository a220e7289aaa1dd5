//! The wire from outside: what one endpoint seals another opens, and nothing else gets through.

use drcm::{
    model::{
        Ack, AssignmentId, Ballot, BootId, Claims, Definition, Digest, Electorate, ElectorateId, Entry, Fact, Fingerprint, GroupId,
        Heartbeat, HeldVote, Lasts, Late, Message, NodeId, NodeState, PassVote, PassedGrant, Record, Refusal, RefusalReason, Relayed,
        Roster, Stamp, Stance, Subject, Tag, Version, VoteAbsent, VoteAck, VoteNumber, VoteTaken, Want, WantRelayed, WantRoster, WantVote,
        Wish, WishDigest, Wishes,
    },
    wire::{Drop, Endpoint, MAX_DATAGRAM, MAX_MESSAGE, Opened, WireError},
};
use proptest::prelude::*;

const A: NodeId = NodeId(0xaaaa_aaaa_aaaa_aaaa);
const B: NodeId = NodeId(0xbbbb_bbbb_bbbb_bbbb);
const C: NodeId = NodeId(0xcccc_cccc_cccc_cccc);
const KEY: &[u8] = b"two kilobytes of /dev/urandom";

/// A process of a node: `life` tells it from the others.
fn endpoint(me: NodeId, life: u8) -> Endpoint {
    endpoint_with(KEY, me, life)
}

fn endpoint_with(key: &[u8], me: NodeId, life: u8) -> Endpoint {
    let node = u8::try_from(me.0 & 0xff).unwrap();
    let mut secret = [life; 32];
    secret[0] = node;
    Endpoint::new(key, me, BootId(u64::from(node) << 8 | u64::from(life)), [A, B, C], secret)
}

fn want(version: u64) -> Message {
    Message::Want(Want { version: Version(version) })
}

fn one(endpoint: &mut Endpoint, to: NodeId, message: Message) -> Vec<u8> {
    let mut datagrams = endpoint.seal(to, &[message]).unwrap();
    assert_eq!(datagrams.len(), 1);
    datagrams.remove(0)
}

/// Lets two endpoints prove each other.
fn acquaint(a: &mut Endpoint, b: &mut Endpoint) {
    for _ in 0..2 {
        let _ = b.open(&one(a, B, want(0)));
        let _ = a.open(&one(b, A, want(0)));
    }
    assert!(b.open(&one(a, B, want(0))).is_ok());
    assert!(a.open(&one(b, A, want(0))).is_ok());
}

fn acquainted() -> (Endpoint, Endpoint) {
    let (mut a, mut b) = (endpoint(A, 1), endpoint(B, 1));
    acquaint(&mut a, &mut b);
    (a, b)
}

fn dropped(endpoint: &Endpoint, reason: &str) -> u64 {
    endpoint.counters().dropped().find(|(name, _)| *name == reason).unwrap().1
}

fn any_message() -> impl Strategy<Value = Message> {
    let state =
        any::<(bool, bool, bool, bool)>().prop_map(|(eligible, left, quorate, standby)| NodeState { eligible, left, quorate, standby });
    let heartbeat = (any::<(u64, u64, u32, u64)>(), state, any::<bool>(), prop::option::of((any::<u64>(), any_ballot()))).prop_map(
        |((tag, version, entries, fingerprint), state, hears_you, later)| {
            let wishes = later.as_ref().map(|(wishes, _)| *wishes);
            Message::Heartbeat(Heartbeat {
                tag: Tag(tag),
                version: Version(version),
                entries,
                state,
                hears_you,
                fingerprint: Fingerprint(fingerprint),
                wishes: wishes.map(WishDigest),
                electorate: wishes.map(|wishes| ElectorateId(wishes ^ 1)),
                ballot: later.map(|(_, ballot)| ballot),
            })
        },
    );
    let stance = prop_oneof![
        any::<(u64, bool)>().prop_map(|(lease_us, running)| Stance::Claims { lease_us, running }),
        any::<u64>().prop_map(|next| Stance::HandsOver { next: NodeId(next) }),
        Just(Stance::Unable),
    ];
    let entry = (any::<u64>(), stance).prop_map(|(group, stance)| Entry { group: GroupId(group), stance });
    let claims = (any::<(u64, u32, u32)>(), prop::collection::vec(entry, 0..=40))
        .prop_map(|((version, first, total), entries)| Message::Claims(Claims { version: Version(version), first, total, entries }));
    let reason = prop_oneof![
        any::<(u64, u64)>().prop_map(|(holder, remaining_us)| RefusalReason::Busy { holder: NodeId(holder), remaining_us }),
        any::<u64>().prop_map(|remaining_us| RefusalReason::Silent { remaining_us }),
        Just(RefusalReason::Unknown),
    ];
    let refusal = (any::<u64>(), reason).prop_map(|(group, reason)| Refusal { group: GroupId(group), reason });
    let ack = (any::<(u64, u64, u32, u32, u64)>(), prop::collection::vec(refusal, 0..=38), prop::option::of(any::<u64>())).prop_map(
        |((tag, version, first, count, cap_us), refused, vote)| {
            let electorate = tag.is_multiple_of(2).then_some(ElectorateId(tag));
            let ack = Ack { tag: Tag(tag), version: Version(version), first, count, cap_us, refused, electorate };
            match vote {
                None => Message::Ack(ack),
                Some(vote) => Message::VoteAck(VoteAck { vote: NodeId(vote), ack }),
            }
        },
    );
    let definition = (any::<u64>(), prop::collection::vec(any::<u64>(), 0..100)).prop_map(|(group, members)| {
        Message::Definition(Definition {
            group: GroupId(group),
            first: 0,
            total: 7,
            assignments: members.into_iter().map(AssignmentId).collect(),
        })
    });
    let subject = prop_oneof![
        Just(Subject::Maintenance),
        any::<u64>().prop_map(|node| Subject::Standby(NodeId(node))),
        any::<u64>().prop_map(|group| Subject::Place(GroupId(group))),
        any::<(u64, u64)>().prop_map(|(group, node)| Subject::Cleanup(GroupId(group), NodeId(node))),
    ];
    let wish = prop_oneof![Just(Wish::Cleared), Just(Wish::On), any::<u64>().prop_map(|node| Wish::Prefer(NodeId(node))), Just(Wish::Home)];
    let lasts = prop_oneof![Just(Lasts::Always), any::<u64>().prop_map(Lasts::For), any::<u64>().prop_map(Lasts::Over)];
    let record = (subject, any::<(u64, u64)>(), wish, lasts).prop_map(|(subject, (counter, author), wish, lasts)| Record {
        subject,
        stamp: Stamp { counter, author: NodeId(author) },
        wish,
        lasts,
    });
    // As many as a node puts into one message.
    let wishes = prop::collection::vec(record, 0..=20).prop_map(|records| Message::Wishes(Wishes { records }));
    let digest = (any::<(u64, u64)>(), prop::collection::vec(any::<(u64, u64)>(), 0..=60)).prop_map(|((began, roster), late)| {
        let late = late.into_iter().map(|(node, age_us)| Late { node: NodeId(node), age_us }).collect();
        Message::Digest(Digest { began: Version(began), roster: Version(roster), late })
    });
    let fact = (any::<(u64, u64, u64, u64, u64, u32)>(), any::<(bool, bool, bool, bool, bool)>()).prop_map(
        |((node, boot, age_us, tag, version, entries), (alive, eligible, left, quorate, standby))| Fact {
            node: NodeId(node),
            boot: BootId(boot),
            alive,
            age_us,
            tag: Tag(tag),
            state: NodeState { eligible, left, quorate, standby },
            version: Version(version),
            entries,
        },
    );
    let roster = (any::<(u64, u64, u64)>(), prop::collection::vec(fact, 0..=20)).prop_map(|((began, from, to), facts)| {
        Message::Roster(Roster { began: Version(began), from: Version(from), to: Version(to), facts })
    });
    let relayed = (any::<(u64, u64)>(), any::<(u64, u32, u32)>()).prop_map(|((node, boot), (version, first, total))| {
        let entries = vec![Entry { group: GroupId(node ^ boot), stance: Stance::HandsOver { next: NodeId(boot) } }];
        Message::Relayed(Relayed {
            node: NodeId(node),
            boot: BootId(boot),
            claims: Claims { version: Version(version), first, total, entries },
        })
    });
    let wants = any::<(u64, u64)>().prop_flat_map(|(node, version)| {
        prop_oneof![
            Just(Message::WantRoster(WantRoster { have: Version(version) })),
            Just(Message::WantRelayed(WantRelayed { node: NodeId(node), version: Version(version) })),
            Just(Message::WantElectorate),
        ]
    });
    let set = || prop::collection::vec(any::<u64>().prop_map(NodeId), 0..=7);
    let electorate = (set(), prop::collection::vec(set(), 0..=12), any::<bool>())
        .prop_map(|(voters, former, new)| Message::Electorate(Electorate { voters, former, new }));
    prop_oneof![
        heartbeat,
        claims,
        ack,
        any::<u64>().prop_map(want),
        definition,
        wishes,
        digest,
        roster,
        relayed,
        wants,
        electorate,
        any_message_about_votes()
    ]
}

fn any_ballot() -> impl Strategy<Value = Ballot> {
    let held = any::<(u64, u64)>().prop_map(|(vote, number)| HeldVote { vote: NodeId(vote), number: VoteNumber(number) });
    (any::<(bool, bool)>(), prop::collection::vec(held, 0..=30)).prop_map(|((takes, lent), votes)| Ballot { takes, lent, votes })
}

fn any_message_about_votes() -> impl Strategy<Value = Message> {
    let grant = any::<(u64, u64, u64, u64, u64)>().prop_map(|(group, holder, boot, version, remaining_us)| PassedGrant {
        group: GroupId(group),
        holder: NodeId(holder),
        boot: BootId(boot),
        version: Version(version),
        remaining_us,
    });
    let pass = (any::<(u64, u64, u64, u32, u32)>(), prop::collection::vec(grant, 0..=24)).prop_map(
        |((vote, number, silent_us, first, total), grants)| {
            Message::PassVote(PassVote { vote: NodeId(vote), number: VoteNumber(number), silent_us, first, total, grants })
        },
    );
    let taken = any::<(u64, u64, bool, u64)>().prop_map(|(vote, number, taken, known)| {
        Message::VoteTaken(VoteTaken { vote: NodeId(vote), number: VoteNumber(number), taken, known: VoteNumber(known) })
    });
    let wanted = any::<(u64, u64)>().prop_map(|(vote, below)| Message::WantVote(WantVote { vote: NodeId(vote), below: VoteNumber(below) }));
    let absent = any::<(u64, u64, u64)>().prop_map(|(below, known, longest_us)| {
        Message::VoteAbsent(VoteAbsent { below: VoteNumber(below), known: VoteNumber(known), longest_us })
    });
    prop_oneof![pass, taken, wanted, absent]
}

proptest! {
    #[test]
    fn whatever_is_sealed_comes_out_in_order_in_datagrams_of_lawful_size(messages in prop::collection::vec(any_message(), 0..12)) {
        let (mut a, mut b) = acquainted();
        let datagrams = a.seal(B, &messages).unwrap();
        prop_assert!(!datagrams.is_empty());
        let mut read = Vec::new();
        for datagram in &datagrams {
            prop_assert!(datagram.len() <= MAX_DATAGRAM);
            let Opened { from, boot, messages, waits_for_echo, newly_proven } = b.open(datagram).unwrap();
            prop_assert_eq!((from, boot, waits_for_echo, newly_proven), (A, BootId(0xaa01), false, false));
            read.extend(messages);
        }
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn an_altered_datagram_is_dropped(message in any_message(), at in any::<prop::sample::Index>(), change in 1..=u8::MAX) {
        let (mut a, mut b) = acquainted();
        let datagram = one(&mut a, B, message);
        let mut altered = datagram.clone();
        altered[at.index(datagram.len())] ^= change;
        prop_assert!(b.open(&altered).is_err());
        prop_assert!(b.open(&datagram[..at.index(datagram.len())]).is_err());
        prop_assert!(b.open(&datagram).is_ok(), "the forgery did no harm");
    }

    #[test]
    fn garbage_never_gets_through(garbage in prop::collection::vec(any::<u8>(), 0..1500), keep in 0..60_usize) {
        let (mut a, mut b) = acquainted();
        prop_assert!(b.open(&garbage).is_err());
        // Garbage behind a true beginning.
        let datagram = one(&mut a, B, want(1));
        let keep = keep.min(datagram.len() - 1);
        let forged: Vec<u8> = datagram[..keep].iter().chain(&garbage).copied().collect();
        prop_assume!(forged != datagram);
        prop_assert!(b.open(&forged).is_err());
        prop_assert!(b.open(&datagram).is_ok());
    }

    /// The proof is reached through any loss and order, by new nodes and restarted ones, while recordings of every
    /// earlier life are played without end just before each datagram.
    #[test]
    fn the_living_are_proven_despite_loss_and_replays(
        fates in prop::collection::vec((any::<bool>(), any::<bool>()), 0..30),
        lives in 0..6_u8,
        restart in (any::<bool>(), any::<bool>()),
    ) {
        let mut recorded: Vec<Vec<u8>> = Vec::new();
        let (mut a, mut b) = (endpoint(A, 100), endpoint(B, 100));
        for life in 0..lives {
            let (mut old_a, mut old_b) = (endpoint(A, life), endpoint(B, life));
            for _ in 0..3 {
                let (to_b, to_a) = (one(&mut old_a, B, want(666)), one(&mut old_b, A, want(666)));
                let _ = (old_b.open(&to_b), old_a.open(&to_a));
                recorded.extend([to_b, to_a]);
            }
        }
        let replay = |a: &mut Endpoint, b: &mut Endpoint| {
            for datagram in &recorded {
                prop_assert!(a.open(datagram).is_err());
                prop_assert!(b.open(datagram).is_err());
            }
            Ok(())
        };
        let round = |a: &mut Endpoint, b: &mut Endpoint, a_is_heard: bool, b_is_heard: bool| {
            replay(a, b)?;
            let to_b = one(a, B, want(1));
            let heard_by_b = a_is_heard && b.open(&to_b).is_ok();
            replay(a, b)?;
            let to_a = one(b, A, want(2));
            let heard_by_a = b_is_heard && a.open(&to_a).is_ok();
            Ok::<_, TestCaseError>((heard_by_a, heard_by_b))
        };
        for (a_is_heard, b_is_heard) in fates {
            round(&mut a, &mut b, a_is_heard, b_is_heard)?;
        }
        if restart.0 {
            a = endpoint(A, 101);
        }
        if restart.1 {
            b = endpoint(B, 101);
        }
        let mut rounds = 0;
        while round(&mut a, &mut b, true, true)? != (true, true) {
            rounds += 1;
            prop_assert!(rounds < 100, "no proof after {rounds} rounds");
        }
        for _ in 0..5 {
            prop_assert_eq!(round(&mut a, &mut b, true, true)?, (true, true), "once proven, always heard");
        }
    }
}

#[test]
fn two_new_nodes_prove_each_other_in_three_datagrams() {
    let (mut a, mut b) = (endpoint(A, 1), endpoint(B, 1));
    let refused = b.open(&one(&mut a, B, want(1))).unwrap_err();
    assert_eq!(refused, Drop::UnprovenBoot { from: A, boot: BootId(0xaa01), waits_for_echo: true });
    // Each is told that an answer is worth sending at once; it need not carry anything.
    let answer = b.seal(A, &[]).unwrap().remove(0);
    let opened = a.open(&answer).unwrap();
    assert!(opened.newly_proven && opened.waits_for_echo && opened.messages.is_empty());
    let opened = b.open(&one(&mut a, B, want(2))).unwrap();
    assert!(opened.newly_proven && !opened.waits_for_echo);
    assert_eq!(opened.messages, [want(2)]);
    assert_eq!((a.proven_boot(B), b.proven_boot(A)), (Some(BootId(0xbb01)), Some(BootId(0xaa01))));
    // The handshake is over: later datagrams are shorter, and nobody waits.
    let first = one(&mut b, A, want(3));
    a.open(&first).unwrap();
    let second = one(&mut a, B, want(3));
    assert!(!b.open(&second).unwrap().waits_for_echo);
    assert_eq!(second.len(), 42 + 3 + 1 + 16);
}

#[test]
fn a_restarted_node_takes_the_place_of_its_former_boot_which_is_old_for_ever() {
    let (mut a, mut b) = acquainted();
    let from_old = one(&mut b, A, want(5));
    let mut new = endpoint(B, 2);
    assert!(matches!(a.open(&one(&mut new, A, want(6))), Err(Drop::UnprovenBoot { .. })));
    // Until then the former one is heard.
    assert_eq!(a.open(&from_old).unwrap().boot, BootId(0xbb01));
    assert!(new.open(&one(&mut a, B, want(7))).unwrap().newly_proven);
    let opened = a.open(&one(&mut new, A, want(8))).unwrap();
    assert!(opened.newly_proven);
    assert_eq!(opened.boot, BootId(0xbb02));
    assert_eq!(a.open(&one(&mut b, A, want(9))), Err(Drop::OldBoot));
    assert_eq!(a.open(&from_old), Err(Drop::OldBoot));
    assert!(a.open(&one(&mut new, A, want(10))).is_ok());
}

#[test]
fn a_process_that_resumes_a_boot_is_another_session_of_it() {
    let (mut a, mut b) = acquainted();
    let recorded = one(&mut b, A, want(1));
    let mut resumed = Endpoint::new(KEY, B, BootId(0xbb01), [A, C], [77; 32]);
    assert!(a.open(&one(&mut resumed, A, want(2))).is_err());
    assert!(resumed.open(&one(&mut a, B, want(3))).is_ok());
    let opened = a.open(&one(&mut resumed, A, want(4))).unwrap();
    assert_eq!((opened.boot, opened.messages), (BootId(0xbb01), vec![want(4)]));
    assert_eq!(a.open(&recorded), Err(Drop::OldBoot));
}

#[test]
fn more_former_boots_than_are_remembered_still_cannot_come_back() {
    let mut a = endpoint(A, 1);
    let mut recorded = Vec::new();
    for life in 1..=20 {
        let mut b = endpoint(B, life);
        for _ in 0..3 {
            // The second of these carries the echo that proves this boot.
            let to_a = one(&mut b, A, want(1));
            let _ = a.open(&to_a);
            let _ = b.open(&one(&mut a, B, want(1)));
            recorded.push(to_a);
        }
        assert_eq!(a.proven_boot(B), Some(BootId(0xbb00 | u64::from(life))));
    }
    recorded.truncate(3 * 19);
    for _ in 0..3 {
        for datagram in &recorded {
            assert!(a.open(datagram).is_err());
        }
    }
    assert_eq!(a.proven_boot(B), Some(BootId(0xbb00 | 20)));
    assert_eq!(dropped(&a, "old boot"), 3 * 8 * 3);
}

#[test]
fn a_peer_that_leaves_the_file_and_returns_must_prove_itself_against_a_new_challenge() {
    let (mut a, mut b) = (endpoint(A, 1), endpoint(B, 1));
    let _ = a.open(&one(&mut b, A, want(1)));
    b.open(&one(&mut a, B, want(1))).unwrap();
    let echo = one(&mut b, A, want(2));
    a.set_peers([C]);
    assert_eq!(a.open(&echo), Err(Drop::UnknownSender { from: B }));
    assert_eq!(a.seal(B, &[want(1)]), Err(WireError::UnknownPeer { peer: B }));
    a.set_peers([B, C]);
    assert!(matches!(a.open(&echo), Err(Drop::UnprovenBoot { .. })));
}

#[test]
fn a_datagram_is_accepted_once_and_in_any_order_within_the_window() {
    let (mut a, mut b) = acquainted();
    let mut datagrams: Vec<Vec<u8>> = (0..128).map(|version| one(&mut a, B, want(version))).collect();
    datagrams.reverse();
    for datagram in &datagrams {
        assert!(b.open(datagram).is_ok());
        assert_eq!(b.open(datagram), Err(Drop::Replayed));
    }
    let late = one(&mut a, B, want(1));
    (0..128).for_each(|version| drop(b.open(&one(&mut a, B, want(version))).unwrap()));
    assert_eq!(b.open(&late), Err(Drop::Replayed));
    assert_eq!(dropped(&b, "replayed"), 129);
}

#[test]
fn every_single_bit_counts() {
    let (mut a, mut b) = acquainted();
    let datagram = one(&mut a, B, want(1));
    for bit in 0..datagram.len() * 8 {
        let mut altered = datagram.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(b.open(&altered).is_err(), "bit {bit}");
    }
    assert_eq!(b.open(&datagram).unwrap().messages, [want(1)]);
}

#[test]
fn strangers_wrong_keys_wrong_receivers_and_wrong_sizes_have_their_reasons() {
    let (mut a, mut b) = acquainted();
    let mut c = endpoint(C, 1);
    let for_b = one(&mut a, B, want(1));
    assert_eq!(c.open(&for_b), Err(Drop::NotForMe));
    assert_eq!(a.open(&for_b), Err(Drop::NotForMe), "reflected");
    let mut readdressed = for_b.clone();
    readdressed[10..18].copy_from_slice(&C.0.to_le_bytes());
    assert_eq!(c.open(&readdressed), Err(Drop::BadSeal));
    let mut impostor = endpoint_with(b"another key", A, 2);
    assert_eq!(b.open(&one(&mut impostor, B, want(1))), Err(Drop::BadSeal));
    let mut stranger = Endpoint::new(KEY, NodeId(1), BootId(1), [B], [9; 32]);
    assert_eq!(b.open(&one(&mut stranger, B, want(1))), Err(Drop::UnknownSender { from: NodeId(1) }));
    let mut future = for_b.clone();
    future[..2].copy_from_slice(&[9, 9]);
    assert_eq!(b.open(&future), Err(Drop::Version { from: None, theirs: 9, readable_from: 9 }));
    future[..2].copy_from_slice(&[0, 0]);
    assert_eq!(b.open(&future), Err(Drop::Version { from: None, theirs: 0, readable_from: 0 }));
    assert_eq!(b.open(&[]), Err(Drop::TooShort));
    assert_eq!(b.open(&for_b[..57]), Err(Drop::TooShort));
    assert_eq!(b.open(&[0; MAX_DATAGRAM + 1]), Err(Drop::TooLong));
    assert!(b.open(&for_b).is_ok());
    for (reason, count) in [("bad seal", 1), ("unknown sender", 1), ("version", 2), ("too short", 2), ("too long", 1), ("not for me", 0)] {
        assert_eq!(dropped(&b, reason), count, "{reason}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_not_cut() {
    let (mut a, mut b) = acquainted();
    let definition = |members: usize| {
        Message::Definition(Definition {
            group: GroupId(u64::MAX),
            first: u32::MAX,
            total: u32::MAX,
            assignments: vec![AssignmentId(u64::MAX); members],
        })
    };
    let fits = MAX_MESSAGE / 10 - 3;
    assert_eq!(b.open(&one(&mut a, B, definition(fits))).unwrap().messages, [definition(fits)]);
    let result = a.seal(B, &[want(1), definition(MAX_MESSAGE / 10 + 1)]);
    assert!(matches!(result, Err(WireError::MessageTooLong { kind: "definition", .. })), "{result:?}");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let text = format!("{:?}", endpoint(A, 1));
    assert!(text.starts_with("Endpoint { me: NodeId(aaaa") && !text.contains("root") && !text.contains("secret"), "{text}");
}
