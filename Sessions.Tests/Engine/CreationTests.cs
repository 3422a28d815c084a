using System.Text;

namespace Sessions.Tests.Engine;

/// <summary>Creating a session is safe to repeat, whatever has become of it since.</summary>
public sealed class CreationTests
{
    private static CancellationToken Cancel => TestLog.Cancel;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_same_request_has_the_original_answer(bool isEncrypted)
    {
        await using var log = TestLog.Open(isEncrypted ? TestLog.NewMaster() : null);
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        var (first, wasThere) = await log.Log.CreateAsync(TestLog.New("one", "ada", """{"a":1}"""), isOwnId: false, key,
            Owner.Of("ada"), Cancel);
        Assert.False(wasThere);
        await log.TurnAsync("one", "ada");
        await log.Log.ChangeMetadataAsync(SessionRef.ById("one"), Owner.Anyone, _ => Encoding.UTF8.GetBytes("""{"b":2}"""), Cancel);

        var (again, isReplayed) = await log.Log.CreateAsync(TestLog.New("two", "ada", """{"a":1}"""), isOwnId: false, key,
            Owner.Of("ada"), Cancel);

        Assert.True(isReplayed);
        Assert.Equal((first.Id, first.Key, first.CreatedAt, first.ExpiresAt, 0, 1),
            (again.Id, again.Key, again.CreatedAt, again.ExpiresAt, again.TurnCount, again.Revision.Version));
        Assert.Equal("""{"a":1}""", Encoding.UTF8.GetString(again.Metadata.Span));
        await RefusedAsync("idempotency_key_reused", log, TestLog.New("three", "ada"), false,
            key with { Body = Guid.NewGuid() }, Owner.Of("ada"));
        await RefusedAsync("idempotency_key_reused", log, TestLog.New("three", "bob"), false, key, Owner.Of("bob"));
    }

    [Fact]
    public async Task The_same_request_many_times_at_once_creates_its_own_id_once_and_is_answered_alike()
    {
        await using var log = TestLog.Open();
        for (var round = 0; round < 20; round++)
        {
            var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
            var id = $"own-{round}";

            var made = await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => Task.Run(async () =>
                await log.Log.CreateAsync(TestLog.New(id, "ada"), isOwnId: true, key, Owner.Of("ada"), TestLog.Cancel))));

            Assert.Single(made, one => !one.Replayed);
            Assert.Single(made.Select(one => one.Session.Key).Distinct());
        }
    }

    [Fact]
    public async Task An_id_of_the_clients_choice_is_refused_where_it_is_taken()
    {
        await using var log = TestLog.Open();
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await log.TurnAsync("mine", "ada");
        await RefusedAsync("session_exists", log, TestLog.New("mine", "ada"), true, null, Owner.Of("ada"));

        // Also when it is asked for again with the same key; and where it is just like what was asked for.
        var alike = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await log.Log.CreateAsync(TestLog.New("alike", "ada"), isOwnId: true, null, Owner.Of("ada"), Cancel);
        await RefusedAsync("session_exists", log, TestLog.New("alike", "ada"), true, alike, Owner.Of("ada"));
        await RefusedAsync("session_exists", log, TestLog.New("alike", "ada"), true, alike, Owner.Of("ada"));
        await RefusedAsync("session_exists", log, TestLog.New("mine", "ada"), true, key, Owner.Of("ada"));
        await RefusedAsync("session_exists", log, TestLog.New("mine", "ada"), true, key, Owner.Of("ada"));

        // Also where it is another user's; once it is free, the same request gets it.
        var others = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await RefusedAsync("session_exists", log, TestLog.New("mine", "bob"), true, others, Owner.Of("bob"));
        await RefusedAsync("session_exists", log, TestLog.New("mine", "bob"), true, others, Owner.Of("bob"));
        await log.Log.DeleteAsync(SessionRef.ById("mine"), Owner.Of("ada"), Cancel);
        Assert.False((await log.Log.CreateAsync(TestLog.New("mine", "bob"), isOwnId: true, others, Owner.Of("bob"), Cancel)).Replayed);
    }

    [Fact]
    public async Task An_id_of_the_clients_choice_is_created_once()
    {
        await using var log = TestLog.Open();
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        var answers = await Task.WhenAll(Enumerable.Range(0, 8)
            .Select(_ => log.Log.CreateAsync(TestLog.New("mine", "ada"), false, key, Owner.Of("ada"), Cancel).AsTask()));

        Assert.Single(answers, answer => !answer.Replayed);
        Assert.Single(answers.Select(answer => answer.Session.Key).Distinct());
    }

    private static async Task RefusedAsync(
        string code, TestLog log, NewSession session, bool isOwnId, Idempotency? key, Owner owner) => Assert.Equal(
        code, (await Assert.ThrowsAsync<DomainException>(
            async () => await log.Log.CreateAsync(session, isOwnId, key, owner, Cancel))).Error.Code);
}
