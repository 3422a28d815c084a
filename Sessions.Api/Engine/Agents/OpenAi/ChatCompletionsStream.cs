using System.Net.ServerSentEvents;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>The events of a streamed answer, as the library can read them: bounded in bytes and number, and with an end. An answer that
/// lacks its end was broken off.</summary>
internal sealed class ChatCompletionsStream : Stream
{
    private static readonly byte[] Done = [.. "data: [DONE]\n\n"u8];

    private readonly BoundedStream _source;
    private readonly ChatCompletionsReader _reader;
    private readonly ProviderAnswer _answer;
    private readonly IAsyncEnumerator<SseItem<byte[]>> _events;
    private readonly int _maxPieces;
    private ReadOnlyMemory<byte> _event;
    private int _pieces;
    private bool _isDone;

    /// <summary>Reads the events of a body.</summary>
    /// <param name="body">The body.</param>
    /// <param name="maxBytes">How many bytes it may have.</param>
    /// <param name="maxPieces">How many events.</param>
    /// <param name="answer">Gets what is told beside the text.</param>
    /// <param name="call">Gets an error.</param>
    public ChatCompletionsStream(Stream body, int maxBytes, int maxPieces, ProviderAnswer answer, AgentCall call)
    {
        _source = new BoundedStream(body, maxBytes);
        _reader = new ChatCompletionsReader(answer, call);
        _answer = answer;
        _maxPieces = maxPieces;
        _events = SseParser.Create(_source, Parse).EnumerateAsync().GetAsyncEnumerator(CancellationToken.None);
    }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (_event.IsEmpty)
        {
            if (_isDone)
            {
                return 0;
            }

            _source.Token = cancellationToken;
            if (await _events.MoveNextAsync())
            {
                _event = _events.Current.Data;
                continue;
            }

            // Some servers never say [DONE], others give no reason; without either it is not the end.
            _isDone = _answer.FinishReason is not null ? true
                : throw (_pieces == 0 ? new FormatException("No event.") : new ProviderException(ProviderFault.BrokenOff));
        }

        var length = Math.Min(buffer.Length, _event.Length);
        _event[..length].CopyTo(buffer);
        _event = _event[length..];
        return length;
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override async ValueTask DisposeAsync()
    {
        await _source.DisposeAsync();
        await base.DisposeAsync();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _source.Dispose();
        }

        base.Dispose(disposing);
    }

    private byte[] Parse(string type, ReadOnlySpan<byte> data)
    {
        if (++_pieces > _maxPieces)
        {
            throw new ProviderException(ProviderFault.TooLarge);
        }

        if (data.Trim((byte)' ').SequenceEqual("[DONE]"u8))
        {
            _isDone = true;
            return Done;
        }

        var json = data.ToArray();
        return type == "error" ? throw _reader.RefusedBy(json) : [.. "data: "u8, .. _reader.Rewrite(json, isPiece: true), .. "\n\n"u8];
    }
}
