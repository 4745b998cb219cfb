//! The relay on loopback: real sockets, real clients of the protocol crate, no other machine.

#[cfg(test)]
mod command_line;
#[cfg(test)]
mod datagrams;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod proxied;
#[cfg(test)]
mod records;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod stun;
#[cfg(test)]
mod tls;
