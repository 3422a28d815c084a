using System.Text;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>What every store promises. Each store's tests derive from this class; <see cref="EveryStoreIsTested"/> sees to it.</summary>
public abstract partial class SessionStoreContract
{
    protected static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Makes an empty store.</summary>
    private protected abstract Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time);

    private Task<TestStore> OpenAsync(int maxPerUser = 10, double timeoutHours = 24) =>
        OpenAsync(new SessionSettings { MaxSessionsPerUser = maxPerUser, TimeoutHours = timeoutHours }, new FakeTimeProvider(Start));

    [Fact]
    public async Task A_created_session_can_be_read_as_it_was_returned()
    {
        await using var store = await OpenAsync();

        var created = await store.CreateAsync("a", "user", """{"tag":"blue"}""");
        var read = await store.GetAsync("a");

        Assert.Equal("a", created.Id);
        Assert.Equal("user", created.UserId);
        Assert.Equal(1, created.Version);
        Assert.Equal(SessionOrigin.Api, created.CreatedFrom);
        Assert.Equal(Start, created.CreatedAt);
        Assert.Equal(Start, created.LastActivityAt);
        Assert.Equal(Start.AddHours(24), created.ExpiresAt);
        Assert.Equal(0, created.TurnCount);
        Assert.Null(created.LastTurn);
        AssertSame(created, read);
        Assert.Equal("""{"tag":"blue"}""", Encoding.UTF8.GetString(read!.Metadata.Span));
    }

    [Fact]
    public async Task An_id_is_created_once()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a", "first");

        Assert.Null(await store.Store.CreateAsync(TestStore.New("a", "second"), Cancel));
        Assert.Equal("first", (await store.GetAsync("a"))!.UserId);
        Assert.Empty(await store.ListIdsAsync("second"));
    }

    [Fact]
    public async Task Ids_are_told_apart_by_case()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a", "User");

        Assert.Null(await store.GetAsync("A"));
        Assert.Empty(await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_deleted_session_is_gone_with_its_history()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");

        Assert.True(await store.Store.DeleteAsync("a", Owner.Anyone, Cancel));

        Assert.False(await store.Store.DeleteAsync("a", Owner.Anyone, Cancel));
        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Null(await store.Store.ReadHistoryAsync("a", Owner.Anyone, new TurnPageRequest(10, null, false), Cancel));
        var again = await store.TurnAsync("a", "other");
        Assert.Null(again.Session);
        Assert.Single(await store.HistoryAsync("a"));
    }

    [Fact]
    public async Task Texts_come_back_to_the_letter()
    {
        await using var store = await OpenAsync();
        string[] texts = ["", "plain", "naïve café", "שלום עולם", "👩‍👩‍👧‍👦 🇩🇪", "a\0b\u0001\r\n\t", "'; DROP TABLE turns; --", new string('x', 70_000)];

        foreach (var text in texts)
        {
            await store.TurnAsync("a", "user'\"%_", text, text + "!");
        }

        var history = await store.HistoryAsync("a");
        Assert.Equal(texts, history.Select(turn => turn.Query.ToString()));
        Assert.Equal(texts.Select(text => text + "!"), history.Select(turn => turn.Response.ToString()));
        Assert.Equal(["a"], await store.ListIdsAsync("user'\"%_"));
    }

    [Fact]
    public async Task Metadata_is_replaced_only_at_the_expected_version_and_is_no_activity()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a", "user", """{"k":1}""");
        store.Time.Advance(TimeSpan.FromHours(1));

        var (session, replaced) = await store.Store.ReplaceMetadataAsync("a", Owner.Anyone, 1, "{\"k\":2}"u8.ToArray(), Cancel);
        var (current, again) = await store.Store.ReplaceMetadataAsync("a", Owner.Anyone, 1, "{\"k\":3}"u8.ToArray(), Cancel);

        Assert.True(replaced);
        Assert.Equal(2, session!.Version);
        Assert.Equal(Start, session.LastActivityAt);
        Assert.Equal(Start.AddHours(24), session.ExpiresAt);
        Assert.False(again);
        Assert.Equal(2, current!.Version);
        Assert.Equal("{\"k\":2}", Encoding.UTF8.GetString((await store.GetAsync("a"))!.Metadata.Span));
        Assert.Equal(default, await store.Store.ReplaceMetadataAsync("none", Owner.Anyone, 1, default, Cancel));
    }

    [Fact]
    public async Task Erasing_a_user_removes_all_of_its_sessions_and_nothing_else()
    {
        await using var store = await OpenAsync();
        for (var i = 0; i < 5; i++)
        {
            await store.TurnAsync($"mine{i}", "me");
            await store.TurnAsync($"mine{i}", "me");
            await store.TurnAsync($"yours{i}", "you");
        }

        var running = await store.BeginAsync("mine0", "me");
        var erasure = await store.Store.EraseUserAsync("me", Cancel);

        Assert.Equal(new Erasure(5, 10), erasure);
        Assert.Empty(await store.ListIdsAsync("me"));
        Assert.Null(await store.GetAsync("mine0"));
        Assert.Equal(5, (await store.ListIdsAsync("you")).Count);
        Assert.Equal(CommitStatus.Gone, await store.CommitAsync(running));
        Assert.Equal(default, await store.Store.EraseUserAsync("me", Cancel));
        Assert.Equal(5, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task Health_is_good()
    {
        await using var store = await OpenAsync();

        Assert.Equal(Microsoft.Extensions.Diagnostics.HealthChecks.HealthStatus.Healthy, (await store.Store.CheckHealthAsync(Cancel)).Status);
    }

    private protected static void AssertSame(Session? expected, Session? actual)
    {
        Assert.NotNull(expected);
        Assert.NotNull(actual);
        Assert.Equal(expected with { Metadata = default }, actual with { Metadata = default });
        Assert.Equal(expected.Metadata.ToArray(), actual.Metadata.ToArray());
    }
}
