"""Generated models are printed, made documents of and read back."""

from hypothesis import given

from pyairtable_mesh.runtime.authorization.language import document
from pyairtable_mesh.runtime.authorization.language.difference import differences
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from tests.contract.authorization import worlds


@worlds.many
@given(worlds.schemas())
def test_what_is_printed_or_made_a_document_is_the_same_model(schema: Schema) -> None:
    assert parse(str(schema)) == schema
    assert document.from_document(document.to_document(schema)) == schema
    assert differences(schema, parse(str(schema))) == []
