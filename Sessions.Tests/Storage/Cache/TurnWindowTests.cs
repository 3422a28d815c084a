using Sessions.Api;

namespace Sessions.Tests.Storage;

/// <summary>Which turns are remembered after one more.</summary>
public sealed class TurnWindowTests
{
    [Theory]
    [InlineData(0, 0, "1")]
    [InlineData(0, 20, "1")]
    [InlineData(1, 0, "2")]
    [InlineData(1, 1, "2")]
    [InlineData(2, 3, "1 2 3")]
    [InlineData(3, 3, "2 3 4")]
    [InlineData(4, 2, "2 3 4 5")]
    public void As_many_as_were_asked_for_or_known(int before, int asked, string remembered) =>
        Assert.Equal(remembered, string.Join(' ', TurnWindow.After([.. Enumerable.Range(1, before).Select(Number)], asked, Number(before + 1)).Select(turn => turn.Number)));

    private static Turn Number(int number) => new()
    {
        Number = number,
        Query = "q",
        Response = "r",
        AgentType = "advanced",
        AgentUsed = "builtin",
        CreatedAt = DateTimeOffset.UnixEpoch,
        ExecutionTime = TimeSpan.Zero,
    };
}
