using System.Text.Json;
using CsCheck;

namespace Sessions.Tests.Api;

/// <summary>Texts are written as the library writes them, whichever way they take.</summary>
public sealed class JsonTextTests
{
    private static readonly JsonSerializerOptions Library = ApiJson.Configure(
        new JsonSerializerOptions { TypeInfoResolver = JsonSerializerOptions.Default.TypeInfoResolver });

    [Fact]
    public void Every_character_is_written_as_the_library_does() =>
        Assert.All(Enumerable.Range(0, 0x300).Select(code => $"a \"{(char)code}\" b"), AssertSame);

    [Theory]
    [InlineData("")]
    [InlineData("\"")]
    [InlineData("plain")]
    [InlineData("\\\"\n\r\t\b\f")]
    [InlineData("To \"what?\" I say: \"naïve – 東京\"")]
    [InlineData("\"\u001f\u007f\u0085\u2028😀")]
    public void So_are_quotes_and_what_is_not_ASCII(string text) => AssertSame(text);

    [Fact]
    public void So_are_texts_of_all_lengths() =>
        Gen.Char["ab \"\\\n\r\t\0é"].Array[0, 3000].Select(characters => new string(characters)).Sample(AssertSame, iter: 300);

    private static void AssertSame(string text)
    {
        var written = JsonSerializer.Serialize(new StreamDelta(text), ApiJson.Wire.StreamDelta);

        Assert.Equal($$"""{"text":{{JsonSerializer.Serialize(text, Library)}}}""", written);
    }
}
