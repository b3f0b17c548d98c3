//! The conformance suite, for every shipped protocol.

use std::time::Duration;

use optimist_stm::check::conformance;
use optimist_stm::{Kind, with_protocol};

#[test]
fn every_protocol_conforms() {
    let mut complaints = Vec::new();
    for &kind in Kind::ALL {
        for phenomenon in with_protocol!(kind, P => conformance::phenomena::<P>()) {
            if let Err(complaint) = phenomenon.run(Duration::from_secs(60)) {
                complaints.push(format!("{kind}, {}: {complaint}", phenomenon.name));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
