using System.Text;
using System.Text.RegularExpressions;
using CsCheck;
using Sessions.Api;

namespace Sessions.Tests.Api;

/// <summary>What the agent that is built in takes for the same word.</summary>
public sealed class WordsTests
{
    private static readonly string[] Some = ["train", "Trains", "window", "WINDOWS", "afternoon", "afternoons", "of", "café", "42nd2"];

    [Theory]
    [InlineData("I like trains", "like trains")]
    [InlineData("a bc def", "")]
    [InlineData("port 8080: open/closed", "port 8080 open closed")]
    [InlineData("“Москва”—красивый город!", "Москва красивый город")]
    [InlineData("naïve,café e\u0301tude", "naïve café tude")]
    [InlineData("東京タワー。京都", "東京タワー")]
    [InlineData("…", "")]
    [InlineData("x…train…y", "train")]
    public void A_word_has_four_letters_or_more(string text, string words) => Assert.Equal(words.Split(' ', StringSplitOptions.RemoveEmptyEntries), All(text));

    [Theory]
    [InlineData("trains", "I like TRAINS", true)]
    [InlineData("training", "I like trains", false)]
    [InlineData("traits", "I like trains", false)]
    [InlineData("москва", "Это МОСКВА", true)]
    [InlineData("ЁЛКА", "ёлка", true)]
    [InlineData("école", "ÉCOLE", true)]
    [InlineData("ecole", "école", false)]
    public void Case_makes_no_difference(string word, string text, bool contained)
    {
        var set = new WordSet(Encoding.UTF8.GetBytes(text), new WordSet.Entry[16]);
        var words = new Words(Encoding.UTF8.GetBytes(word));

        Assert.True(words.Next());
        Assert.Equal(contained, set.Contains(words));
    }

    [Fact]
    public void Words_are_found_wherever_they_lie_in_a_text_of_any_length() =>
        Gen.Char["aB9 -."].Array[0, 400].Select(characters => new string(characters)).Sample(text => Assert.Equal(Plainly(text), All(text)), iter: 2000);

    [Fact]
    public void Words_in_common_are_counted_as_they_are_found() =>
        Gen.Select(Gen.Int[0, Some.Length - 1].Select(i => Some[i]).Array[0, 60], Gen.Int[0, 70]).Sample(
            (chosen, most) =>
            {
                var text = string.Join(chosen.Length % 2 == 0 ? " " : ", ", chosen);
                var set = new WordSet("trains by the windows: CAFÉ, AfterNoon and afternoon"u8, new WordSet.Entry[16]);

                var counted = set.CountIn(Encoding.UTF8.GetBytes(text), most);

                Assert.Equal(Plainly(text).Take(most).Count(word => word.ToUpperInvariant() is "TRAINS" or "WINDOWS" or "CAFÉ" or "AFTERNOON"), counted);
            },
            iter: 2000);

    [Fact]
    public void A_set_takes_as_many_words_as_there_is_room_for()
    {
        var text = string.Join(' ', Enumerable.Range(1000, 500));
        var set = new WordSet(Encoding.UTF8.GetBytes(text), new WordSet.Entry[64]);

        Assert.Equal(64, set.CountIn(Encoding.UTF8.GetBytes(text), 500));
    }

    private static List<string> Plainly(string text) => [.. Regex.Matches(text, @"[\p{L}\p{N}]{4,}").Select(match => match.Value)];

    private static List<string> All(string text)
    {
        List<string> all = [];
        var words = new Words(Encoding.UTF8.GetBytes(text));
        while (words.Next())
        {
            all.Add(Encoding.UTF8.GetString(words.Current));
        }

        return all;
    }
}
