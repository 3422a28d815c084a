using System.Text.Json;

namespace Sessions.Tests.Storage;

/// <summary>Texts as they go from requests through the stores into responses.</summary>
public sealed class Utf8TextTests
{
    [Theory]
    [InlineData("", 3, "")]
    [InlineData("abc", 3, "abc")]
    [InlineData("abcd", 3, "abc…")]
    [InlineData("äöü", 3, "äöü")]
    [InlineData("äöü€", 3, "äöü…")]
    [InlineData("€€€", 3, "€€€")]
    [InlineData("€€€€", 2, "€€…")]
    [InlineData("a👍", 3, "a👍")]
    [InlineData("a👍b", 3, "a👍…")]
    [InlineData("ab👍", 3, "ab…")]
    [InlineData("ab👍c", 3, "ab…")]
    public void Is_cut_between_characters_as_UTF16_counts_them(string text, int characters, string cut) =>
        Assert.Equal(cut, ((Utf8Text)text).Shorten(characters).ToString());

    [Theory]
    [InlineData("", true)]
    [InlineData(" \t\r\n\u00a0\u3000", true)]
    [InlineData("\u3000x", false)]
    [InlineData("\0", false)]
    [InlineData("👍", false)]
    public void Knows_white_space(string text, bool isBlank) => Assert.Equal(isBlank, ((Utf8Text)text).IsBlank);

    [Theory]
    [InlineData("\"\"", "")]
    [InlineData("\"a\\u00e4\\n\\ud83d\\udc4d\"", "aä\n👍")]
    [InlineData("\"ä👍\"", "ä👍")]
    public void Is_a_JSON_string(string json, string text) => Assert.Equal(text, JsonSerializer.Deserialize<Utf8Text>(json));

    [Theory]
    [InlineData("\"\\ud83d\"")]
    [InlineData("1")]
    [InlineData("null")]
    public void Is_nothing_else_than_a_JSON_string_of_Unicode(string json) =>
        Assert.Throws<JsonException>(() => JsonSerializer.Deserialize<Utf8Text>(json));

    [Fact]
    public void Is_what_its_bytes_are()
    {
        Utf8Text text = "a text";
        Assert.Equal(text, new Utf8Text("a text"u8.ToArray()));
        Assert.Equal(text.GetHashCode(), new Utf8Text("a text"u8.ToArray()).GetHashCode());
        Assert.NotEqual(text, new Utf8Text("a test"u8.ToArray()));
        Assert.Equal("a\ufffd", ((Utf8Text)"a\ud83d").ToString());
    }
}
