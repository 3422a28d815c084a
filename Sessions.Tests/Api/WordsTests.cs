using System.Text;
using Sessions.Api;

namespace Sessions.Tests.Api;

/// <summary>What the agent that is built in takes for the same word.</summary>
public sealed class WordsTests
{
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
