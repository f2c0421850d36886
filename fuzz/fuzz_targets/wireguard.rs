#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::userspace::wireguard::message::{DATA_HEADER_LEN, DATA_OVERHEAD, Message, data_header, parse};

fuzz_target!(|bytes: &[u8]| match parse(bytes) {
    Ok(Message::Data { receiver, counter }) => {
        assert!(bytes.len() >= DATA_OVERHEAD);
        assert_eq!(bytes[..DATA_HEADER_LEN], data_header(receiver, counter), "there is one way only to write a header");
    }
    Ok(Message::Initiation(message)) => assert_eq!(message[..], *bytes),
    Ok(Message::Response(message)) => assert_eq!(message[..], *bytes),
    Ok(Message::Cookie(message)) => assert_eq!(message[..], *bytes),
    Err(_) => {}
});
