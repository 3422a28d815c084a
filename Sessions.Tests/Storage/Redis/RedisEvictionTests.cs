using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

namespace Sessions.Tests.Storage.Redis;

/// <summary>
/// Who makes room while an index names sessions that are gone: a session that was made and evicted before its maker came to enter it is
/// such a one. As many stay as are allowed.
/// </summary>
public sealed class RedisEvictionTests(RedisFixture redis)
{
    private const string User = "ada";

    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));

    [Fact]
    public async Task One_that_is_to_go_is_not_brought_back_and_removed_all_the_same()
    {
        await using var space = await OpenAsync();
        using var late = new Step("made");
        var first = Create(space, late, "first");
        await late.ReachedAsync();
        await ReplacedAsync(space);
        using var decided = new Step("decided");

        // It is decided that "second" makes room for "third"; then the late one comes, and takes the place of "third" for a moment.
        var third = Create(space, decided, "third");
        await decided.ReachedAsync();
        late.Go();
        await first;
        decided.Go();
        await third;

        Assert.Equal(["third"], await space.Store.ListIdsAsync(User));
        Assert.NotNull(await space.Store.GetAsync("third"));
    }

    [Fact]
    public async Task Nobody_goes_for_one_that_came_after_the_others_were_looked_at()
    {
        await using var space = await OpenAsync();
        using var looked = new Step("made", "looked");
        using var late = new Step("made", "doomed");
        Task[] makers = [Create(space, looked, "first"), Create(space, late, "other")];
        await looked.ReachedAsync();
        await late.ReachedAsync();
        await ReplacedAsync(space);

        // "first" takes the place of "second", which is to go; that "first" is gone is seen, and before there is room "other" takes it.
        looked.Go();
        await looked.ReachedAsync();
        late.Go();
        await late.ReachedAsync();
        looked.Go();
        await makers[0];
        late.Go();
        await makers[1];

        Assert.Equal(["second"], await space.Store.ListIdsAsync(User));
        Assert.NotNull(await space.Store.GetAsync("second"));
    }

    [Fact]
    public async Task Another_goes_for_one_that_was_to_go_and_is_used_before_it_went()
    {
        await using var space = await OpenAsync();
        await space.Store.CreateAsync("used", User);
        _time.Advance(TimeSpan.FromSeconds(1));
        using var doomed = new Step("doomed");
        var other = Create(space, doomed, "other");
        await doomed.ReachedAsync();
        _time.Advance(TimeSpan.FromSeconds(1));

        await space.Store.TurnAsync("used", User);

        Assert.Equal(["used"], await space.Store.ListIdsAsync(User));
        doomed.Go();
        await other;
        Assert.Equal(["used"], await space.Store.ListIdsAsync(User));
        Assert.Null(await space.Store.GetAsync("other"));
    }

    // One session is allowed. Whoever lists them enters those whose makers have not come to it; then "second" takes their place.
    private async Task ReplacedAsync(Space space)
    {
        Assert.Single(await space.Store.ListIdsAsync(User));
        _time.Advance(TimeSpan.FromSeconds(1));
        await space.Store.CreateAsync("second", User);
        Assert.Equal(["second"], await space.Store.ListIdsAsync(User));
        _time.Advance(TimeSpan.FromSeconds(1));
    }

    private Task Create(Space space, Step step, string id) => Task.Run(async () =>
    {
        using var store = RedisFixture.NewStore(space.Connection, "", space.Store.Policy, _time, step.Reach);
        await store.CopyAsync(new CopyRequest { Session = TestStore.New(id, User) }, TestContext.Current.CancellationToken);
    });

    private async Task<Space> OpenAsync()
    {
        var connection = await ConnectionMultiplexer.ConnectAsync(await redis.NewDatabaseAsync());
        var policy = new StorePolicy { Lifetime = _ => TimeSpan.FromHours(24), MaxPerUser = kind => kind == SessionKind.Chain ? 0 : 1 };
        return new Space(connection, await RedisFixture.NewStoreAsync(connection, "", policy, _time, connection));
    }

    private sealed record Space(IConnectionMultiplexer Connection, TestStore Store) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => Store.DisposeAsync();
    }

    /// <summary>Holds a store at steps, one after the other, the first time that it comes to each.</summary>
    private sealed class Step(params string[] steps) : IDisposable
    {
        private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);

        private readonly SemaphoreSlim _reached = new(0);
        private readonly SemaphoreSlim _go = new(0);
        private int _next;

        public void Reach(string step)
        {
            if (_next < steps.Length && step == steps[_next])
            {
                _next++;
                _reached.Release();
                Assert.True(_go.Wait(Patience, TestContext.Current.CancellationToken));
            }
        }

        public async Task ReachedAsync() => Assert.True(await _reached.WaitAsync(Patience, TestContext.Current.CancellationToken));

        public void Go() => _go.Release();

        public void Dispose()
        {
            _reached.Dispose();
            _go.Dispose();
        }
    }
}
