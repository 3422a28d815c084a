using Sessions.Api;

namespace Sessions.Tests.Api;

/// <summary>The ids that the server makes.</summary>
public sealed class RandomIdsTests
{
    private static readonly DateTimeOffset Time = new(2026, 11, 25, 12, 0, 0, TimeSpan.Zero);

    [Fact]
    public void A_version_7_has_its_time_and_sorts_by_it()
    {
        var id = RandomIds.NewVersion7(Time);
        var later = RandomIds.NewVersion7(Time.AddMilliseconds(1));

        Assert.Equal((7, 8), (id.Version, id.Variant & 0xC));
        Assert.Equal(Guid.CreateVersion7(Time).ToString()[..14], id.ToString()[..14]);
        Assert.True(string.CompareOrdinal(id.ToString(), later.ToString()) < 0);
    }

    [Fact]
    public void A_version_4_is_one()
    {
        var id = RandomIds.NewVersion4();

        Assert.Equal((4, 8), (id.Version, id.Variant & 0xC));
    }

    [Fact]
    public async Task None_is_ever_made_twice_on_whatever_thread()
    {
        var made = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(
            () => Enumerable.Range(0, 20_000).Select(i => i % 2 == 0 ? RandomIds.NewVersion4() : RandomIds.NewVersion7(Time)).ToList(), TestContext.Current.CancellationToken)));

        Assert.Equal(160_000, made.SelectMany(ids => ids).Distinct().Count());
    }
}
