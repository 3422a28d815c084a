using CsCheck;
using Sessions.Api;
using ZiggyCreatures.Caching.Fusion.Internals.Distributed;

namespace Sessions.Tests.Storage;

public sealed class TurnWindowTests
{
    private static readonly TurnWindow Window = new(new SessionStamp(7, 1_700_000_000_000_000, 12, 1_700_000_100_000_000),
    [
        SqliteTests.NewTurn(4, "naïve 👩‍👩‍👧", "") with { ExecutionTime = TimeSpan.FromMicroseconds(1234567), InputTokens = 5 },
        SqliteTests.NewTurn(5, "", new string('r', 3000)) with { AgentType = "ä", OutputTokens = 0, StartedSession = true },
    ]);

    [Fact]
    public void An_entry_is_read_as_it_was_written()
    {
        var read = Read(Write(Window));

        Assert.Equal(Window.Stamp, read.Value.Stamp);
        Assert.Equal(Window.Turns, read.Value.Turns);
        Assert.Equal((1, 2), (read.Timestamp, read.LogicalExpirationTimestamp));
    }

    [Fact]
    public void What_was_cut_off_or_added_to_is_refused()
    {
        var sound = Write(Window);

        for (var length = 0; length < sound.Length; length++)
        {
            Assert.Throws<InvalidDataException>(() => Read(sound[..length]));
        }

        Assert.Throws<InvalidDataException>(() => Read([.. sound, 0]));
    }

    [Fact]
    public void Noise_is_refused_and_nothing_worse() => Gen.Byte.Array[0, 200].Sample(noise =>
    {
        // The form's first byte, so that what follows is looked at.
        var error = Record.Exception(() => Read([1, .. noise]));
        Assert.True(error is InvalidDataException or ArgumentOutOfRangeException or OverflowException, $"{error}");
    });

    [Theory]
    [InlineData(0, 3, 3)]
    [InlineData(9, 3, 3)]
    [InlineData(10, 2, 3)]
    [InlineData(14, 2, 3)]
    [InlineData(15, 1, 3)]
    [InlineData(1000, 1, 3)]
    public void As_many_of_the_last_turns_are_kept_as_there_is_room_for(int bytes, int first, int last)
    {
        var window = new TurnWindow(Window.Stamp, [SqliteTests.NewTurn(1, "12", "345"), SqliteTests.NewTurn(2, "1234", "5"), SqliteTests.NewTurn(3, "", "12345")]);

        var kept = window.Last(bytes);

        Assert.Equal(window.Stamp, kept.Stamp);
        Assert.Equal(Enumerable.Range(first, last - first + 1), kept.Turns.Select(turn => turn.Number));
    }

    [Theory]
    [InlineData(0, 0, "1")]
    [InlineData(0, 20, "1")]
    [InlineData(1, 0, "2")]
    [InlineData(1, 1, "2")]
    [InlineData(2, 3, "1 2 3")]
    [InlineData(3, 3, "2 3 4")]
    [InlineData(4, 2, "2 3 4 5")]
    public void After_one_more_turn_as_many_are_remembered_as_were_asked_for_or_known(int before, int asked, string remembered)
    {
        var turns = Enumerable.Range(1, before + 1).Select(number => SqliteTests.NewTurn(number, "q", "r")).ToList();

        var after = TurnWindow.After(turns[..^1], asked, turns[^1]);

        Assert.Equal(remembered, string.Join(' ', after.Select(turn => turn.Number)));
    }

    private static byte[] Write(TurnWindow window) =>
        TurnWindowSerializer.Instance.Serialize(new FusionCacheDistributedEntry<TurnWindow>(window, 1, 2, null, null));

    private static FusionCacheDistributedEntry<TurnWindow> Read(byte[] data) => TurnWindowSerializer.Instance.Deserialize<FusionCacheDistributedEntry<TurnWindow>>(data)!;
}
