//! What the fuzz targets reach of this room: each call takes any bytes, and must not panic.

use crate::address::{Address, ForwardPath, ReversePath};
use crate::header;

/// Text as an address, a path, and the addresses of a header field.
///
/// # Panics
/// When an address that was accepted is not the address that it prints as.
pub fn address(bytes: &[u8]) {
    let same = |address: Address<'_>| assert_eq!(Address::parse(&address.to_string()), Ok(address));
    let _ = header::addresses(bytes, same);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = Address::parse(text) {
        same(address);
        assert_eq!(address.to_buf().as_address(), address);
        let _ = address.routing_trick();
    }
    let _ = ReversePath::parse(text);
    let _ = ForwardPath::parse(text).map(ForwardPath::routing_trick);
}
