//! Changes that let in what must stay outside, or out what must stay inside.

use dunnage_testing::mutant::Change;

use super::{Mutation, are_noticed};

const BREACHES: [Mutation; 10] = [
    Mutation {
        why: "whatever a key ends in becomes part of a path",
        change: Change::ReturnsOne("dunnage_files::cache::name::is_harmless"),
        noticed_by: &["objects::keys::every_key_is_an_object_of_its_own_and_lies_below_the_cache"],
    },
    Mutation {
        why: "every text is the name of a bucket",
        change: Change::ReturnsOne("dunnage_types::address::is_bucket_name"),
        noticed_by: &["objects::addresses::what_is_no_object_is_refused_before_a_socket_opens"],
    },
    Mutation {
        why: "every address counts as this machine's own",
        change: Change::ReturnsOne("core::net::ip_addr::IpAddr::is_loopback"),
        noticed_by: &["access::a_server_that_anybody_could_use_is_refused_unless_that_is_meant"],
    },
    Mutation {
        why: "every token may do everything",
        change: Change::ReturnsOne("dunnage_server::access::scope::Scopes::allow"),
        noticed_by: &["access::each_path_takes_its_scopes_and_nothing_less", "access::what_was_not_let_in_has_no_effect"],
    },
    Mutation {
        why: "pages of other sites are not known as such",
        change: Change::ReturnsZero("dunnage_server::access::origins::Origins::is_foreign"),
        noticed_by: &[
            "browsers::whatever_another_sites_page_sends_is_refused_and_has_no_effect",
            "refusals::pages_of_other_sites_are_refused",
        ],
    },
    Mutation {
        why: "the server goes by every name",
        change: Change::ReturnsOne("dunnage_server::access::origins::Origins::is_ours"),
        noticed_by: &["refusals::a_page_whose_name_leads_here_does_not_pass_for_one_of_ours"],
    },
    Mutation {
        why: "strangers are told reasons",
        change: Change::ReturnsOne("dunnage_server::access::sight::Sight::of"),
        noticed_by: &["access::why_a_script_cannot_be_loaded_is_not_told_to_strangers"],
    },
    Mutation {
        why: "strangers read whole logs",
        change: Change::ReturnsOne("dunnage_server::access::sight::Sight::shows"),
        noticed_by: &["access::a_traceback_is_shown_to_tokens_with_the_scope_only"],
    },
    Mutation {
        why: "workers see the server's secrets",
        change: Change::ReturnsZero("dunnage_workers::launch::is_withheld"),
        noticed_by: &["canaries::no_secret_comes_out_and_strangers_see_no_inside"],
    },
    Mutation {
        why: "numbers that are none are answered",
        change: Change::ReturnsOne("core::f64::<impl f64>::is_finite"),
        noticed_by: &["outputs::an_output_that_is_no_vector_of_numbers_is_refused"],
    },
];

#[test]
fn each_breach_is_noticed() {
    are_noticed("breach", &BREACHES);
}
