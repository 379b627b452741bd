"""Tokens that open reports, and verifiers that anybody may read."""

import pytest

from wsgi_contract.report_token import VerifierError, fits, parse_verifiers, token_of, verifier_of

KEY, OTHER = b"k" * 32, b"o" * 32


def test_a_token_is_the_same_whenever_it_is_made_and_needs_no_quoting() -> None:
    token = token_of(KEY, "0b1e")
    assert token == token_of(KEY, "0b1e") == "snzRdL3cXdPeJP4by38CS8epXxY2uHyMCBYLuKrnxfA"
    assert len(token) == 43


def test_another_server_or_another_key_makes_another_token() -> None:
    tokens = {token_of(key, uid) for key in (KEY, OTHER) for uid in ("a", "b", "")}
    assert len(tokens) == 6


def test_a_token_fits_its_own_verifier_alone() -> None:
    token, stranger = token_of(KEY, "a"), token_of(KEY, "b")
    assert fits(token, (verifier_of(token),))
    assert fits(token, (verifier_of(stranger), verifier_of(token)))
    assert not fits(stranger, (verifier_of(token),))
    assert not fits(verifier_of(token), (verifier_of(token),))
    assert not fits("", (verifier_of(token),))
    assert not fits("\ud800é\x00", (verifier_of(token),))


def test_a_file_may_hold_both_verifiers_of_a_change_of_keys() -> None:
    both = verifier_of("a"), verifier_of("b")
    assert parse_verifiers(f"  {both[0]}\n{both[1]}\n") == both


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no verifier"),
        (" \n", "no verifier"),
        ("sha256:abc", "64 hexadecimal digits"),
        (verifier_of("a").upper(), "64 hexadecimal digits"),
        (token_of(KEY, "a"), "64 hexadecimal digits"),
        (f"{verifier_of('a')} " * 5, "5 verifiers, more than 4"),
    ],
)
def test_what_holds_no_verifiers_says_what_is_wrong_and_not_what_it_holds(text: str, words: str) -> None:
    with pytest.raises(VerifierError, match=words) as raised:
        parse_verifiers(text)
    assert not text.strip() or text.strip() not in str(raised.value)
