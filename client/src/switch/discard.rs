//! Why frames go nowhere. Each cause has a place in a table of counters and a name in `status --json`.

macro_rules! causes {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $cause:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$about])* $cause,)+
        }

        impl $name {
            /// Every cause, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$cause),+];

            /// What programs call it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$cause => $text,)+
                }
            }

            /// Its place in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

causes! {
    /// Why a frame from our own device goes nowhere.
    OutboundDrop {
        /// It ends inside its Ethernet header.
        Truncated = "out_truncated",
        /// Its source is a group address.
        SourceIsGroup = "out_source_is_group",
        /// Its source is a member's own address: a loop through a bridge behind our device, or a forgery.
        SourceIsMember = "out_source_is_member",
        /// It is for our own device.
        ToOurselves = "out_to_ourselves",
        /// It is for a station that was last heard behind our own device.
        Hairpin = "out_hairpin",
        /// It asks for our own address, and whoever has that is on this side.
        AsksForUs = "out_asks_for_us",
        /// It asks for the address of a member that is away.
        OwnerIsAway = "out_owner_is_away",
        /// It repeats a question that was passed on less than a second ago.
        AskedAgain = "out_asked_again",
        /// It is for a station that nobody has heard of since the first frames for it went to everybody.
        Unheard = "out_unheard",
        /// It belongs to the protocols of bridges, which end here.
        LinkControl = "out_link_control",
        /// This node and another bridge the same LAN, and this one gives way.
        LoopBlocked = "out_loop_blocked",
        /// It looks for loops and is not for us to pass on.
        Probe = "out_probe",
    }
}

causes! {
    /// Why a frame of a peer is not let in.
    InboundDrop {
        /// It ends inside its Ethernet header.
        Truncated = "in_truncated",
        /// Its source is a group address.
        SourceIsGroup = "in_source_is_group",
        /// Its source is our own address: a loop through a bridge behind the peer, or a forgery.
        SourceIsOurs = "in_source_is_ours",
        /// Its source is the own address of another member.
        Spoofed = "in_mac_spoofed",
        /// In ARP it speaks for an address, or a MAC, of ours or of another member.
        ArpSpoofed = "in_arp_spoofed",
        /// Its IPv4 source is an address of ours or of another member.
        Ipv4Spoofed = "in_ipv4_spoofed",
        /// Its IPv6 source is an address of ours or of another member.
        Ipv6Spoofed = "in_ipv6_spoofed",
        /// In neighbour discovery it speaks for an address, or a MAC, of ours or of another member.
        NeighbourSpoofed = "in_neighbour_spoofed",
        /// It speaks for something that is not its own, and may not bridge.
        NotABridge = "in_not_a_bridge",
        /// It is for another member.
        NotForUs = "in_not_for_us",
        /// It belongs to the protocols of bridges.
        LinkControl = "in_link_control",
        /// It is the answer of a DHCP server that is not allowed.
        RogueDhcp = "in_rogue_dhcp",
        /// It is the advertisement, or a redirect, of a router that is not allowed.
        RogueRouter = "in_rogue_router",
        /// Its headers go on in another fragment, so that what it is cannot be told (RFC 7113).
        Obscured = "in_obscured",
        /// More than the peer's budget.
        OverBudget = "in_over_budget",
        /// This node and another bridge the same LAN, and this one gives way.
        LoopBlocked = "in_loop_blocked",
        /// Its station flaps between here and there and is held to be here, or both its ends were heard here.
        Flapping = "in_flapping",
        /// A report of group membership that would keep our own hosts from making theirs (RFC 4541 §2.1.1).
        ReportKept = "in_report_kept",
        /// It looks for loops and has no business here.
        Probe = "in_probe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_cause_has_its_own_name_and_place() {
        let out = OutboundDrop::ALL.iter().map(|cause| (cause.index(), cause.name()));
        let inn = InboundDrop::ALL.iter().map(|cause| (cause.index(), cause.name()));
        assert!(out.clone().map(|(at, _)| at).eq(0..OutboundDrop::ALL.len()));
        assert!(inn.clone().map(|(at, _)| at).eq(0..InboundDrop::ALL.len()));
        let names: HashSet<&str> = out.chain(inn).map(|(_, name)| name).collect();
        assert_eq!(names.len(), OutboundDrop::ALL.len() + InboundDrop::ALL.len());
    }
}
